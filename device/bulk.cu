// Operations on the whole device side of a heap at rest, with Thrust on either backend: the same
// functors run as CUDA threads or in a loop on the CPU. This file is compiled once for each
// backend.
#include <algorithm>
#include <array>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/backend.hpp>
#include <warpheap/detail/observe.cuh>
#include <warpheap/device_heap.cuh>
#include <warpheap/launch.cuh>

#include "bulk/host_frees.cuh"
#include "bulk/recount.cuh"
#include "bulk/sweep.cuh"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace {

struct free_pointers {
  device_heap heap;
  void* const* pointers;
  std::uint32_t n;
};

/// Frees for the host, one lane each; sorted pointers, so that lanes with the same word share an
/// atomic.
__global__ void free_kernel(free_pointers batch) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= batch.n) return;
  const heap_view& h = batch.heap.view;
  // Relaxed: a pointer to an observed object reached the host after the store of `active`.
  if (atomic::load<order::relaxed>(&h.state->observed.active) != 0)
    core::observed_free_entry(*h.self, __activemask(), batch.pointers[i]);
  else
    batch.heap.free(batch.pointers[i]);
}

__global__ void mark_done(std::uint32_t* done) {
  // Release, for the host: the batch's kernel has read its pointers.
  atomic::store<order::release, scope::system>(done, 1u);
}

struct close_tiny_block {
  heap_view h;
  __device__ void operator()(std::uint32_t slot) const {
    const core::tiny_word r{atomic::exchange<order::acq_rel>(h.tiny + slot, std::uint64_t{0})};
    if (r.block() != 0) core::close_block(h, r);
  }
};

struct retire_page {
  heap_view h;
  __device__ void operator()(std::uint32_t p) const { core::retire_span(h, p); }
};

struct give_run {
  heap_view h;
  page_run run;
  __device__ void operator()(std::uint32_t) const { core::accept_pages(h, run); }
};

struct forget_pages {
  heap_view h;
  std::uint32_t n;
  __device__ void operator()(std::uint32_t) const { h.state->device_pages.value -= n; }
};

struct forget_stock_page {
  heap_view h;
  __device__ void operator()(std::uint32_t p) const {
    if (page_entry{h.entry[p]}.cls() == stock_class && (h.stock[p / 64] >> (p % 64) & 1) != 0)
      h.entry[p] = 0;
  }
};

struct set_marks {
  heap_view h;
  std::uint32_t* marks;
  __device__ void operator()(std::uint32_t) const { h.state->marks = marks; }
};

struct mark_pointer {
  heap_view h;
  void* const* pointers;
  __device__ void operator()(std::uint32_t i) const { core::mark_object(h, pointers[i]); }
};

/// A reset counts as a free of each remaining object.
struct note_reset {
  heap_view h;
  __device__ void operator()(std::uint32_t cls) const {
    h.state->observed.frees[cls] = h.state->observed.mallocs[cls];
  }
};

template <class T>
struct zero {
  T* array;
  __device__ void operator()(std::uint32_t i) const {
    // Writes only non-zero elements: untouched pages of a lazily backed array stay untouched.
    if (array[i] != T{}) array[i] = T{};
  }
};

template <class T>
void clear(T* array, std::size_t n) {
  for (std::size_t done = 0; done < n;) {
    const std::size_t part = std::min<std::size_t>(n - done, std::size_t{1} << 30);
    for_each_index(0, static_cast<std::uint32_t>(part), zero<T>{array + done});
    done += part;
  }
}

struct repair {
  heap_view h;
  __device__ void operator()(std::uint32_t box) const {
    device_state& s = *h.state;
    const std::uint32_t asked = h.queue->request[box].seq;
    const bool acked = refill_ack::seq_of(h.queue->ack[box].bits) == asked;
    // Nobody looks at replies any more: all that was granted goes back.
    if (!acked)
      atomic::store<order::release, scope::system>(&h.queue->ack[box].bits,
                                                   refill_ack::make(asked, false));
    if (box == stock_mailbox) {
      s.stock_request.value = core::request_state(stock_phase::idle, asked);
      s.home_request.value = core::request_state(stock_phase::idle, h.queue->home.seq);
      s.free_mailboxes.value = ~std::uint64_t{1};
      s.reclaiming.value = 0;
      s.in_hand.value = 0;
      s.waiting.value = 0;
      for (unsigned cls = 0; cls < span_classes; ++cls) s.growers[cls] = 0;
      return;
    }
    s.mailbox_seq[box] = asked;
  }
};

class bulk_operations final : public device_operations {
 public:
  explicit bulk_operations(const heap_view& view)
      : h_(view),
        marked_(make_shared_array<page_index>(collect_capacity)),
        host_frees_(make_shared_array<void*>(collect_capacity)),
        freed_(make_shared_array<void*>(batch_count * batch_capacity)),
        done_(make_shared_array<std::uint32_t>(batch_count)) {
    for (std::size_t i = 0; i < batch_count; ++i) {
      batches_[i] = {freed_.get() + i * batch_capacity, done_.get() + i};
      *batches_[i].done = 1;
    }
    // A kernel's first launch loads it, which may wait until the device is idle. These two are
    // launched while users' kernels run, all others at rest.
    launch_frees(batches_[0], 0);
    launch_mark(batches_[0]);
    frees_.synchronize();
  }

  void synchronize() override {
    const device_scope here(device_);
    frees_.synchronize();
    // This also frees buffers whose mark could not be launched.
    for (batch& b : batches_) *b.done = 1;
    warpheap::synchronize();
  }

  bool free_batch(std::vector<void*>& pointers) override {
    const device_scope here(device_);
    // Each pass takes as many as one buffer holds, from the end.
    while (!pointers.empty()) {
      const auto b = std::find_if(batches_.begin(), batches_.end(), [](const batch& candidate) {
        return atomic::load<order::acquire, scope::system>(candidate.done) != 0;
      });
      if (b == batches_.end()) return false;
      const auto n =
          static_cast<std::uint32_t>(std::min<std::size_t>(pointers.size(), batch_capacity));
      std::copy(pointers.end() - n, pointers.end(), b->pointers);
      std::sort(b->pointers, b->pointers + n);
      launch_frees(*b, n);
      // From here on the pointers are the kernel's: to free them again would be a double free.
      pointers.resize(pointers.size() - n);
      launch_mark(*b);
    }
    return true;
  }

  std::vector<void*> take_host_frees(const std::function<bool(page_index)>& is_lent,
                                     bool at_rest) override {
    const device_scope here(device_);
    std::vector<void*> pointers;
    bool more = false;
    do {
      try {
        // Comes first: there must be room for what is collected.
        pointers.reserve(pointers.size() + collect_capacity);
      } catch (...) {
        if (pointers.empty()) throw;
        more = true;
        break;
      }
      core::begin_collecting(h_);
      collected found = search(static_cast<std::uint32_t>(level_words(h_.pages, 0)),
                               find_marked_pages{h_, collected_.get(), marked_.get()});
      more = found.left_behind != 0;
      // Entries do not tell whose a page is: one that was lent a moment ago, in a reply that no
      // kernel has read yet, still says that it is nobody's, and may be full of live objects by the
      // next look.
      page_index* const end =
          marked_.get() + std::min<std::uint64_t>(found.count, collect_capacity);
      page_index* const lent =
          std::partition(marked_.get(), end, [&](page_index p) { return !is_lent(p); });
      found = search(static_cast<std::uint32_t>(lent - marked_.get()),
                     collect_host_frees{h_, collected_.get(), marked_.get(), host_frees_.get()});
      more = more || found.left_behind != 0;
      pointers.insert(pointers.end(), host_frees_.get(),
                      host_frees_.get() + std::min<std::uint64_t>(found.count, collect_capacity));
      if (at_rest)
        for_each_index(0, static_cast<std::uint32_t>(end - lent), report_stale_marks{h_, lent});
    } while (more && at_rest);
    // The rest is for the next call, as a service thread has other work to do.
    if (more) atomic::store<order::relaxed, scope::system>(&h_.queue->host_frees_pending, 1u);
    std::sort(pointers.begin(), pointers.end());  // in place: it cannot fail
    return pointers;
  }

  device_counts recount() override {
    const device_scope here(device_);
    counts_.zero();
    for_each_index(0, high_page(), count_page{h_, counts_.get()});
    for_each_index(0, h_.warp_slots, discount_open_block{h_, counts_.get()});
    return read(counts_);
  }

  void retire_empty_spans() override {
    const device_scope here(device_);
    for_each_index(0, h_.warp_slots, close_tiny_block{h_});
    for_each_index(0, high_page(), retire_page{h_});
  }

  std::vector<page_run> take_stock() override {
    const device_scope here(device_);
    const std::uint32_t high = high_page();
    if (high == 0) return {};
    std::vector<std::uint64_t> words(level_words(high, 0));
    copy_from_device(words.data(), h_.stock, words.size() * sizeof(std::uint64_t));
    std::vector<page_run> runs;
    for (page_index p = 0; p < high; ++p) {
      if ((words[p / 64] >> (p % 64) & 1) == 0) continue;
      if (!runs.empty() && runs.back().first + runs.back().count == p)
        ++runs.back().count;
      else
        runs.push_back({p, 1});
    }
    for_each_index(0, high, forget_stock_page{h_});
    clear(h_.stock, summary_words(h_.pages));
    clear(&h_.state->stock_pages.value, 1);
    std::uint32_t pages = 0;
    for (const page_run run : runs) pages += run.count;
    for_each_index(0, 1, forget_pages{h_, pages});
    return runs;
  }

  void give_stock(page_run run) override {
    const device_scope here(device_);
    for_each_index(0, 1, give_run{h_, run});
  }

  void reset() override {
    const device_scope here(device_);
    const std::size_t high = high_page();
    clear(h_.word, high * words_per_page);
    clear(h_.rec, high);
    clear(h_.entry, high);
    clear(h_.tiny_mask, high * (page_size / 32));
    clear(h_.tiny_last, high * (tiny_blocks_per_page / 32));
    clear(h_.has_free, std::size_t{span_classes} * h_.summary_stride);
    clear(h_.stock, summary_words(h_.pages));
    clear(h_.tiny, h_.warp_slots);
    clear(h_.hint, std::size_t{h_.warp_slots} * span_classes);
    device_state& s = *h_.state;
    for (padded_counter* c : {&s.stock_pages, &s.device_pages, &s.large_objects, &s.large_pages,
                              &s.pressure, &s.denied, &s.run_denied, &s.high_page})
      clear(&c->value, 1);
    clear(s.spans, span_classes);
    clear(s.scanned_at, span_classes);
    clear(s.idle_spans, span_classes);
    clear(s.given_up, span_classes);
    if (marks_ != nullptr) clear(marks_, high * (page_size / 32));
    clear(&s.dangling.value, 1);
    for_each_index(1, counted_classes - 1, note_reset{h_});
  }

  void begin_marks(std::uint32_t* marks) override {
    const device_scope here(device_);
    for_each_index(0, 1, set_marks{h_, marks});
    marks_ = marks;
  }

  void mark(const std::vector<const void*>& pointers) override {
    const device_scope here(device_);
    const auto part = make_shared_array<void*>(batch_capacity);
    for (std::size_t done = 0; done < pointers.size();) {
      const std::size_t n = std::min(pointers.size() - done, batch_capacity);
      std::transform(pointers.begin() + static_cast<std::ptrdiff_t>(done),
                     pointers.begin() + static_cast<std::ptrdiff_t>(done + n), part.get(),
                     [](const void* p) { return const_cast<void*>(p); });
      for_each_index(0, static_cast<std::uint32_t>(n), mark_pointer{h_, part.get()});
      done += n;
    }
  }

  device_sweep sweep(std::size_t listed) override {
    const device_scope here(device_);
    // Everything that can fail comes first.
    listed = std::min(listed, most_listed);
    const auto list = make_shared_array<device_sweep::object>(std::max<std::size_t>(listed, 1));
    device_sweep out;
    out.leaks.reserve(listed);
    out.dangling_pointers.reserve(dangling_slots);
    const std::uint32_t high = high_page();
    for_each_index(0, high, drop_dangling_marks{h_});
    for_each_index(0, h_.warp_slots, close_tiny_block{h_});
    sums_.zero();
    for_each_index(0, high, sweep_page{h_, sums_.get(), {list.get(), listed}});
    clear(marks_, std::size_t{high} * (page_size / 32));
    const sweep_sums sums = read(sums_);
    out.kept_objects = sums.kept_objects;
    out.kept_bytes = sums.kept_bytes;
    std::copy_n(sums.leaked_objects, counted_classes, out.leaked_objects);
    std::copy_n(sums.leaked_bytes, counted_classes, out.leaked_bytes);
    out.leaks.assign(list.get(), list.get() + std::min<std::uint64_t>(sums.listed, listed));
    const device_state state = read_state();
    out.dangling = state.dangling.value;
    out.dangling_pointers.assign(
        state.dangling_at,
        state.dangling_at + std::min<std::uint64_t>(out.dangling, dangling_slots));
    clear(&h_.state->dangling.value, 1);
    return out;
  }

  device_state read_state() override {
    const device_scope here(device_);
    device_state state;
    copy_from_device(&state, h_.state, sizeof state);
    return state;
  }

  device_events take_events() override {
    const device_scope here(device_);
    device_observation o;
    copy_from_device(&o, &h_.state->observed, sizeof o);
    device_events taken;
    const std::uint64_t n = std::min(o.events_so_far.value, o.event_slots);
    if (o.events_so_far.value == 0) return taken;
    taken.lost = o.events_so_far.value - n;
    taken.events.resize(n);
    if (n != 0) copy_from_device(taken.events.data(), o.events, n * sizeof(device_event));
    clear(&h_.state->observed.events_so_far.value, 1);
    return taken;
  }

  void repair_refill() override {
    const device_scope here(device_);
    for_each_index(0, mailboxes, repair{h_});
  }

 private:
  std::uint32_t high_page() {
    std::uint64_t high = 0;
    copy_from_device(&high, &h_.state->high_page.value, sizeof high);
    return static_cast<std::uint32_t>(high);
  }

  template <class F>
  collected search(std::uint32_t n, F f) {
    collected_.zero();
    for_each_index(0, n, f);
    return read(collected_);
  }

  /// Pointers for a kernel to free, and a word that the stream's next kernel sets when it has done
  /// so.
  struct batch {
    void** pointers;
    std::uint32_t* done;
  };

  void launch_frees(batch& b, std::uint32_t n) {
    constexpr unsigned block = 128;
    *b.done = 0;
    try {
      launch(frees_, n / block + 1, block, free_kernel, free_pointers{h_, b.pointers, n});
    } catch (...) {
      *b.done = 1;
      throw;
    }
  }
  /// Without the mark the buffer stays in use until the next synchronize().
  void launch_mark(batch& b) noexcept {
    try {
      launch(frees_, 1, 1, mark_done, b.done);
    } catch (const std::exception&) {
      // Nothing is lost. A persistent error will show at the next launch.
    }
  }

  static constexpr std::size_t batch_capacity = 4096, batch_count = 8;
  static constexpr std::size_t most_listed = std::size_t{1} << 20;

  const int device_ = current_device();
  heap_view h_;
  device_record<device_counts> counts_;
  device_record<collected> collected_;
  device_record<sweep_sums> sums_;
  std::uint32_t* marks_ = nullptr;
  shared_array<page_index> marked_;
  shared_array<void*> host_frees_;
  // Few allocations: each one of pinned memory takes a tenth of a millisecond.
  shared_array<void*> freed_;
  shared_array<std::uint32_t> done_;
  std::array<batch, batch_count> batches_{};
  stream frees_;
};

}  // namespace
}  // namespace WARPHEAP_BACKEND_NS

#ifdef __CUDACC__
std::string why_no_cuda_kernels() {
  cudaFuncAttributes attributes{};
  const cudaError_t code = cudaFuncGetAttributes(&attributes, mark_done);
  if (code == cudaSuccess) return {};
  (void)cudaGetLastError();
  std::string text = std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code);
#ifdef __CUDA_ARCH_LIST__
  const char* before = "; they are compiled for ";
  for (const int architecture : {__CUDA_ARCH_LIST__}) {
    text +=
        before + std::to_string(architecture / 100) + '.' + std::to_string(architecture / 10 % 10);
    before = ", ";
  }
#endif
  return text
         + ": configure with CMAKE_CUDA_ARCHITECTURES for it, and make no heap before main(), when "
           "kernels may not be known yet";
}

std::unique_ptr<device_operations> make_cuda_operations(const heap_view& view)
#else
std::unique_ptr<device_operations> make_simt_operations(const heap_view& view)
#endif
{
  return std::make_unique<bulk_operations>(view);
}

}  // namespace warpheap
