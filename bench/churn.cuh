// Churn: fill to a part of the heap, free a random half, allocate other sizes, again and again. How
// much of the memory can still be used at the end, and how speed and use go from round to round.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace churn {

/// Sizes that the host has chosen, one for each slot; 0: the slot stays empty.
struct chosen_sizes {
  const std::uint32_t* sizes;
  std::uint32_t aligned_to;

  __device__ std::uint32_t size(std::uint64_t i) const { return sizes[i]; }
  __device__ std::uint32_t alignment(std::uint32_t bytes) const {
    return size_plan{bytes, bytes, aligned_to}.alignment(bytes);
  }
};

/// Slot `which[i]` gets an object of its size.
template <class Handle>
__global__ void fill_kernel(Handle heap, void** slots, const std::uint32_t* which,
                            std::size_t count, chosen_sizes sizes) {
  const std::size_t i = global_thread();
  if (i < count) slots[which[i]] = heap.malloc(sizes.size(which[i]));
}

template <class Handle>
__global__ void drop_kernel(Handle heap, void** slots, const std::uint32_t* which,
                            std::size_t count) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  heap.free(slots[which[i]]);
  slots[which[i]] = nullptr;
}

template <class Plan>
__global__ void write_chosen_kernel(void** slots, const std::uint32_t* which, std::size_t count,
                                    Plan plan, std::uint32_t* served, fault* first) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  served[i] = slots[which[i]] != nullptr ? 1 : 0;
  if (usable_object(slots[which[i]], plan, which[i], first))
    write_object(slots[which[i]], plan, which[i]);
}

template <class Index>
__global__ void set_sizes_kernel(std::uint32_t* sizes, const std::uint32_t* which,
                                 const std::uint32_t* wanted, Index count) {
  const auto i = static_cast<Index>(global_thread());
  if (i < count) sizes[which[i]] = wanted[i];
}

struct size_range {
  std::uint32_t least;
  std::uint32_t most;
};
/// Other sizes in every round: an allocator with size classes finds its free memory in pieces of
/// the wrong class, of which few are whole pages.
inline constexpr size_range other_ranges[] = {{16, 128}, {256, 1024}, {24, 48}, {1024, 4096}};
/// The same mixture in every round, as in a program that has settled.
inline constexpr size_range same_range[] = {{16, 1024}};

/// The slots, their sizes and their contents, driven by the host.
template <allocator_adapter A>
class population {
 public:
  population(A& allocator, std::size_t slots)
      : allocator_(allocator), slots_(slots), sizes_(slots), host_sizes_(slots), faults_(1) {
    const chosen_sizes none{nullptr, 8};
    launch(1, block_threads, fill_kernel<handle>, allocator_.device(), slots_.data(), nullptr, 0,
           none);
    launch(1, block_threads, drop_kernel<handle>, allocator_.device(), slots_.data(), nullptr, 0);
    synchronize();
    for (std::size_t i = slots; i-- > 0;) empty_.push_back(static_cast<std::uint32_t>(i));
  }

  /// Adds objects of a range until `payload` bytes are live or one is refused; returns the
  /// time of the mallocs, and their number in `made`.
  elapsed grow(size_range range, std::uint64_t payload, std::mt19937_64& random,
               std::uint64_t& made) {
    elapsed took{0, 0};
    made = 0;
    refused_ = 0;
    while (refused_ == 0 && live_ < payload && !empty_.empty()) {
      std::vector<std::uint32_t> which;
      while (!empty_.empty() && live_ < payload && which.size() < batch_) {
        const std::uint32_t slot = empty_.back();
        empty_.pop_back();
        host_sizes_[slot] =
            range.least + static_cast<std::uint32_t>(random() % (range.most - range.least + 1));
        live_ += host_sizes_[slot];
        which.push_back(slot);
      }
      made += which.size();
      took += fill(which);
    }
    return took;
  }
  /// Frees a random part of the objects (1: all); returns their time.
  elapsed shrink(double part, std::mt19937_64& random, std::uint64_t& freed) {
    std::shuffle(full_.begin(), full_.end(), random);
    const auto count = static_cast<std::size_t>(part * static_cast<double>(full_.size()));
    const std::vector<std::uint32_t> which(full_.end() - static_cast<std::ptrdiff_t>(count),
                                           full_.end());
    full_.resize(full_.size() - count);
    freed = count;
    if (which.empty()) return {};
    const device_array<std::uint32_t> chosen{std::span<const std::uint32_t>(which)};
    const elapsed took = time_of([&] {
      launch(blocks_for(count), block_threads, drop_kernel<handle>, allocator_.device(),
             slots_.data(), chosen.data(), count);
    });
    for (const std::uint32_t slot : which) {
      live_ -= host_sizes_[slot];
      host_sizes_[slot] = 0;
      empty_.push_back(slot);
    }
    return took;
  }
  /// Throws integrity_error if a live object is not as it was written.
  void verify() {
    launch(blocks_for(slots_.size()), block_threads, verify_kernel<chosen_sizes>, slots_.data(),
           slots_.size(), plan(), faults_.data());
    synchronize();
    require_sound(faults_);
  }

  std::uint64_t live_bytes() const { return live_; }
  std::uint64_t refused() const { return refused_; }  // by the latest grow()

 private:
  using handle = typename A::handle;
  /// Objects of one launch. After the one that meets the end of memory nothing more is asked for in
  /// a round, and from then on launches are small: refusals may be slow.
  static constexpr std::size_t first_batch = this_backend == backend_kind::cuda ? 131'072 : 8'192;
  chosen_sizes plan() const { return {sizes_.data(), is_warpheap<A> ? 8u : 16u}; }
  elapsed fill(const std::vector<std::uint32_t>& which) {
    std::vector<std::uint32_t> wanted;
    for (const std::uint32_t slot : which) wanted.push_back(host_sizes_[slot]);
    const device_array<std::uint32_t> chosen{std::span<const std::uint32_t>(which)};
    const device_array<std::uint32_t> sizes{std::span<const std::uint32_t>(wanted)};
    const device_array<std::uint32_t> served(which.size());
    const dim3 grid = blocks_for(which.size());
    launch(grid, block_threads, set_sizes_kernel<std::size_t>, sizes_.data(), chosen.data(),
           sizes.data(), which.size());
    synchronize();
    const elapsed took = time_of([&] {
      launch(grid, block_threads, fill_kernel<handle>, allocator_.device(), slots_.data(),
             chosen.data(), which.size(), plan());
    });
    launch(grid, block_threads, write_chosen_kernel<chosen_sizes>, slots_.data(), chosen.data(),
           which.size(), plan(), served.data(), faults_.data());
    synchronize();
    // What was refused is not live.
    const std::vector<std::uint32_t> got = served.to_host();
    for (std::size_t i = 0; i < which.size(); ++i) {
      const std::uint32_t slot = which[i];
      if (got[i] != 0) {
        full_.push_back(slot);
        continue;
      }
      ++refused_;
      live_ -= host_sizes_[slot];
      host_sizes_[slot] = 0;
      empty_.push_back(slot);
    }
    if (refused_ != 0) batch_ = first_batch / 8;
    return took;
  }

  A& allocator_;
  device_array<void*> slots_;
  device_array<std::uint32_t> sizes_;
  std::vector<std::uint32_t> host_sizes_;
  device_array<fault> faults_;
  std::vector<std::uint32_t> empty_;
  std::vector<std::uint32_t> full_;
  std::uint64_t live_ = 0;
  std::uint64_t refused_ = 0;
  std::size_t batch_ = first_batch;
};

/// What stands in a page: class in the high half, fill of its span in 1/255 in the low byte.
template <class Index>
__global__ void page_map_kernel(heap_view view, std::uint32_t* out, Index pages) {
  const auto page = static_cast<Index>(global_thread());
  if (page >= pages) return;
  const page_entry entry{view.entry[page]};
  std::uint32_t fill = 0;
  if (entry.cls() == large_class) fill = 255;
  if (entry.cls() != no_class && entry.cls() < span_classes) {
    const std::size_t head = page - entry.value();
    const unsigned words = span_words(entry.cls());
    unsigned free = 0;
    for (unsigned w = 0; w < words; ++w)
      free += static_cast<unsigned>(__popcll(view.word[head * words_per_page + w]));
    fill = 255 - 255 * free / (64 * words);
  }
  out[page] = entry.cls() << 16 | fill;
}

/// Pages by class and fill, as two curves over the page's number; pages that no kernel ever had are
/// left out.
inline void add_page_map(result& out, heap& of) {
  of.synchronize();
  const heap_view view = of.device();
  device_array<std::uint32_t> map(view.pages);
  launch(blocks_for(view.pages), block_threads, page_map_kernel<std::size_t>, view, map.data(),
         std::size_t{view.pages});
  synchronize();
  series classes{"page_class", "page", "size class", {}};
  series fills{"page_fill", "page", "live slots / slots of the span", {}};
  const auto pages = map.to_host();
  for (std::size_t page = 0; page < pages.size(); ++page) {
    const std::uint32_t cls = pages[page] >> 16;
    if (cls == no_class) continue;
    classes.points.emplace_back(page, cls);
    fills.points.emplace_back(page, (pages[page] & 0xff) / 255.0);
  }
  out.curves.push_back(std::move(classes));
  out.curves.push_back(std::move(fills));
}

/// Fills to `percent` of the heap, frees a random half, allocates other sizes, `rounds` times; then
/// fills until the first null pointer.
template <allocator_adapter A>
result run_churn(const run_context& run, unsigned percent, std::span<const size_range> ranges) {
  const scale how = scale_of(run);
  const std::size_t bytes = std::min(run.reserve_bytes, std::size_t{how == scale::paper      ? 1024u
                                                                    : how == scale::executor ? 128u
                                                                                             : 32u}
                                                            << 20);
  const unsigned all_rounds = how == scale::quick ? 8 : 40;
  for (const size_range one : ranges) require_sizes<A>(one.most);
  const std::uint64_t target = bytes / 100 * percent;
  A allocator(bytes);
  // Room for the smallest objects, of 36 bytes on the average.
  population<A> objects(allocator, bytes / 32);
  std::mt19937_64 random(percent);
  timings take("malloc", run.wanted.warm_ups());
  timings give("free", run.wanted.warm_ups());
  series malloc_ns{"malloc_ns", "round", "malloc (ns/op)", {}};
  series used{"payload_of_heap", "round", "live payload / heap", {}};
  series of_pages{"payload_of_pages", "round", "live payload / pages in use", {}};
  series requests{"host_requests", "million mallocs", "requests to the host so far", {}};
  series waits{"host_waits", "million mallocs", "waits for the host so far", {}};
  std::uint64_t mallocs = 0;
  std::uint64_t refused = 0;  // in the rounds
  unsigned first_refusal = 0;
  double at_first_null = 0;
  heap_snapshot full;
  std::uint64_t payload = 0;
  result out;
  for (unsigned round = 0; round < all_rounds; ++round) {
    run.step("round " + std::to_string(round + 1) + " of " + std::to_string(all_rounds));
    std::uint64_t made = 0;
    const elapsed took = objects.grow(ranges[round % ranges.size()], target, random, made);
    take.add(took, made);
    mallocs += made;
    refused += objects.refused();
    if (objects.refused() != 0 && first_refusal == 0) {
      first_refusal = round + 1;
      at_first_null = static_cast<double>(objects.live_bytes()) / static_cast<double>(bytes);
    }
    objects.verify();
    const double served = static_cast<double>(made - objects.refused());
    if (served > 0) malloc_ns.points.emplace_back(round + 1, took.ns / static_cast<double>(made));
    used.points.emplace_back(
        round + 1, static_cast<double>(objects.live_bytes()) / static_cast<double>(bytes));
    if (heap* tested = heap_of(allocator)) {
      full = snapshot(*tested);
      payload = objects.live_bytes();
      of_pages.points.emplace_back(
          round + 1, static_cast<double>(payload) / static_cast<double>(full.page_bytes));
      const double millions = static_cast<double>(mallocs) / 1e6;
      requests.points.emplace_back(millions, full.host_requests);
      waits.points.emplace_back(millions, full.waits);
    }
    if (heap* tested = heap_of(allocator); tested != nullptr && round + 1 == all_rounds)
      add_page_map(out, *tested);
    std::uint64_t freed = 0;
    const elapsed giving = objects.shrink(0.5, random, freed);
    give.add(giving, freed);
  }
  out.params = {{"heap_bytes", std::uint64_t{bytes}},
                {"fill_percent", std::uint64_t{percent}},
                {"rounds", std::uint64_t{all_rounds}}};
  // How much fits in now, if none was refused before.
  std::uint64_t made = 0;
  objects.grow(ranges[0], bytes, random, made);
  mallocs += made;
  run.count(mallocs, refused + objects.refused());
  objects.verify();
  const double at_end = static_cast<double>(objects.live_bytes()) / static_cast<double>(bytes);
  if (first_refusal == 0) at_first_null = at_end;
  std::uint64_t freed = 0;
  objects.shrink(1, random, freed);
  heap_use use;
  if (heap* tested = heap_of(allocator)) use = usage(full, snapshot(*tested), payload, mallocs);
  rest(allocator);
  out.operations = {take.finish(), give.finish()};
  out.heap = use;
  out.metrics = {{"payload_at_first_null_ratio", at_first_null},
                 {"payload_filled_up_after_churn_ratio", at_end},
                 {"null_pointers_in_rounds", refused},
                 {"first_round_with_a_null_pointer", std::uint64_t{first_refusal}}};
  out.curves.push_back(std::move(malloc_ns));
  out.curves.push_back(std::move(used));
  if (!of_pages.points.empty()) {
    out.curves.push_back(std::move(of_pages));
    out.curves.push_back(std::move(requests));
    out.curves.push_back(std::move(waits));
  }
  return out;
}

template <allocator_adapter A>
void add_churn_cases() {
  if constexpr (adapter_frees<A>())
    for (const unsigned percent : {50u, 75u, 90u}) {
      const std::string fill = "fill to " + std::to_string(percent) + " %, free a random half, ";
      add_case<A>(
          "churn", 1, "churn/same-" + std::to_string(percent), fill + "the same sizes again",
          [percent](const run_context& run) { return run_churn<A>(run, percent, same_range); });
      add_case<A>(
          "churn", 2, "churn/other-" + std::to_string(percent), fill + "other sizes",
          [percent](const run_context& run) { return run_churn<A>(run, percent, other_ranges); });
    }
}

}  // namespace churn
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
