// Rounds of malloc, write, verify and free on any allocator: what most workloads are made of.
//
// Objects are handed out to every lane, or to one lane of each warp. A point is one setting of a
// curve: it starts with an allocator of its own, so that its first round is cold, and its memory
// untouched.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/adapter.cuh"
#include "bench/measure.hpp"
#include "bench/objects.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

enum class granularity : unsigned { thread = 0, warp = 5 };  // log2 of the lanes for one object

inline const char* granularity_name(granularity g) {
  return g == granularity::thread ? "thread" : "warp";
}

template <class Handle>
__global__ void take_kernel(Handle heap, void** objects, std::size_t count, size_plan plan,
                            unsigned spread) {
  const std::size_t lane = global_thread();
  const std::size_t i = lane >> spread;
  if (i < count && lane == i << spread) objects[i] = heap.malloc(plan.size(i));
}

template <class Handle>
__global__ void give_kernel(Handle heap, void** objects, std::size_t count, unsigned spread) {
  const std::size_t lane = global_thread();
  const std::size_t i = lane >> spread;
  if (i < count && lane == i << spread) heap.free(objects[i]);
}

/// Objects of one allocator, and what is done with all of them at once. The timed calls return
/// what they took.
template <allocator_adapter A>
class object_rounds {
 public:
  object_rounds(A& allocator, std::size_t most)
      : allocator_(allocator), objects_(most), faults_(1) {
    // CUDA loads a kernel when it is launched first: that must not count as the allocator's time.
    count_ = 0;
    launch(1, block_threads, take_kernel<handle>, allocator_.device(), objects_.data(), count_,
           plan_, spread());
    launch(1, block_threads, give_kernel<handle>, allocator_.device(), objects_.data(), count_,
           spread());
    synchronize();
  }

  elapsed take(std::size_t count, size_plan plan, granularity each = granularity::thread) {
    count_ = count;
    plan_ = plan;
    if constexpr (!is_warpheap<A>) plan_.aligned_to = 16;
    each_ = each;
    return time_of([&] {
      launch(grid(), block_threads, take_kernel<handle>, allocator_.device(), objects_.data(),
             count_, plan_, spread());
    });
  }
  /// Writes the objects of the latest take in full; notes null pointers and bad addresses.
  elapsed write() {
    return time_of([&] {
      launch(blocks_for(count_), block_threads, write_kernel<size_plan>, objects_.data(), count_,
             plan_, faults_.data());
    });
  }
  /// Reads them all back; throws integrity_error at the first wrong byte.
  elapsed verify() {
    const elapsed took = time_of([&] {
      launch(blocks_for(count_), block_threads, verify_kernel<size_plan>, objects_.data(), count_,
             plan_, faults_.data());
    });
    require_sound(faults_);
    return took;
  }
  elapsed give() {
    return time_of([&] {
      launch(grid(), block_threads, give_kernel<handle>, allocator_.device(), objects_.data(),
             count_, spread());
    });
  }
  /// Null pointers since the beginning, as write() found them.
  std::uint64_t nulls() const { return faults_.to_host().front().nulls; }
  const device_array<void*>& objects() const { return objects_; }
  std::size_t count() const { return count_; }

 private:
  using handle = typename A::handle;
  dim3 grid() const { return blocks_for(count_ << spread()); }
  unsigned spread() const { return static_cast<unsigned>(each_); }

  A& allocator_;
  device_array<void*> objects_;
  device_array<fault> faults_;
  std::size_t count_ = 0;
  size_plan plan_{16, 16};
  granularity each_ = granularity::thread;
};

/// Collects what this heap's own figures say over the points of a case.
class heap_figures {
 public:
  template <class A>
  void full(A& allocator, std::uint64_t payload) {
    if (heap* tested = heap_of(allocator)) {
      full_ = snapshot(*tested);
      payload_ = payload;
    }
  }
  template <class A>
  void end(A& allocator, std::uint64_t mallocs) {
    if (heap* tested = heap_of(allocator)) {
      const heap_snapshot last = snapshot(*tested);
      sum_.host_requests += last.host_requests;
      sum_.waits += last.waits;
      sum_.peak_bytes = std::max(sum_.peak_bytes, last.peak_bytes);
      mallocs_ += mallocs;
    }
  }
  heap_use use() const {
    return mallocs_ == 0 ? heap_use{} : usage(full_, sum_, payload_, mallocs_);
  }

 private:
  heap_snapshot full_;
  heap_snapshot sum_;
  std::uint64_t payload_ = 0;
  std::uint64_t mallocs_ = 0;
};

/// Whether workloads have the parameters of the papers, those for the executor, or fewer of them.
enum class scale { paper, executor, quick };

inline scale scale_of(const run_context& run) {
  if (run.wanted.quick) return scale::quick;
  return run.backend == backend_kind::cuda ? scale::paper : scale::executor;
}

/// How long one point may take: an allocator that is a thousand times slower must not hold up the
/// others. Fast points are repeated more often than asked, which costs nothing and says more.
class point_clock {
 public:
  explicit point_clock(const run_context& run)
      : run_(run), begin_(std::chrono::steady_clock::now()) {}

  /// Whether repetition i (from 0) is to be made.
  bool wants(unsigned i) const {
    const auto spent = std::chrono::steady_clock::now() - begin_;
    const bool quick = run_.wanted.quick;
    if (i < 2) return true;
    if (spent > std::chrono::milliseconds(quick ? 500 : 5000)) return false;
    if (i < run_.repetitions()) return true;
    if (run_.wanted.repeat) return false;
    // The survey makes a hundred iterations: twenty warm ones in each of five passes.
    if (scale_of(run_) == scale::paper) return i < 21 && spent < std::chrono::seconds(1);
    return i < (quick ? 5 : 9) && spent < std::chrono::milliseconds(quick ? 15 : 60);
  }

 private:
  const run_context& run_;
  std::chrono::steady_clock::time_point begin_;
};

/// One setting of a curve.
struct point {
  size_plan plan;
  std::size_t objects;
  granularity each;
  fields at;
};

/// Whether the objects of a point fit into the memory of every allocator: one that rounds up to
/// powers of two and adds a header needs a little over twice their size.
inline bool fits(const point& one, std::size_t reserve) {
  const std::size_t each = std::max<std::size_t>(16, (one.plan.least + one.plan.most) / 2 + 8);
  return one.objects * each / 4 * 9 <= reserve;
}

/// malloc, first and later writes, free at every point that fits.
template <allocator_adapter A>
result run_points(const run_context& run, const std::vector<point>& points) {
  result out;
  heap_figures figures;
  std::uint64_t left_out = 0;
  for (const point& one : points) {
    if (!fits(one, run.reserve_bytes) || one.plan.most > adapter_most<A>()) {
      ++left_out;
      continue;
    }
    A allocator(run.reserve_bytes);
    object_rounds<A> rounds(allocator, one.objects);
    const unsigned warm_ups = run.wanted.warm_ups();
    timings take("malloc", warm_ups, one.at);
    timings write("write", warm_ups, one.at);
    timings give("free", warm_ups, one.at);
    const point_clock clock(run);
    unsigned made = 0;
    for (; clock.wants(made); ++made) {
      run.step(std::string("round ") + std::to_string(made + 1));
      take.add(rounds.take(one.objects, one.plan, one.each), one.objects);
      write.add(rounds.write(), one.objects);
      rounds.verify();
      if (made == 0) figures.full(allocator, payload_of(one.plan, one.objects));
      give.add(rounds.give(), one.objects);
      rest(allocator);
    }
    run.count(made * one.objects, rounds.nulls());
    if (is_warpheap<A> && rounds.nulls() != 0)
      throw integrity_error(std::to_string(rounds.nulls()) + " of "
                            + std::to_string(one.objects * made)
                            + " objects: expected memory, found null pointers");
    figures.end(allocator, made * one.objects);
    out.operations.push_back(take.finish());
    out.operations.push_back(write.finish());
    if (adapter_frees<A>()) out.operations.push_back(give.finish());
  }
  out.params = {{"one_object_a", std::string(granularity_name(points.front().each))},
                {"heap_bytes", std::uint64_t{run.reserve_bytes}},
                {"cold", std::string("fresh allocator, untouched memory")},
                {"warm", std::string("used allocator, touched memory")}};
  out.heap = figures.use();
  out.metrics = {{"points_left_out", left_out}};
  if (out.operations.empty())
    throw no_input("no point of this case fits into a heap of " + format_bytes(run.reserve_bytes));
  return out;
}

/// from, from * factor, .. up to `to`.
inline std::vector<std::uint32_t> powers(std::uint32_t from, std::uint32_t to,
                                         std::uint32_t factor = 2) {
  std::vector<std::uint32_t> out;
  for (std::uint64_t n = from; n <= to; n *= factor) out.push_back(static_cast<std::uint32_t>(n));
  return out;
}

/// The survey's heap is one of 8 GiB, unless the user asks for another one.
inline run_context with_survey_heap(const run_context& run) {
  run_context out = run;
  if (scale_of(run) == scale::paper && !run.wanted.reserve_bytes)
    out.reserve_bytes = std::min(run.reserve_bytes, std::size_t{8} << 30);
  return out;
}

/// Registers one workload of an allocator.
template <class A>
void add_case(const char* suite, int order, const std::string& name, const std::string& summary,
              std::function<result(const run_context&)> run) {
  if (name.starts_with("survey/") && !name.starts_with("survey/gallatin"))
    run = [run](const run_context& given) { return run(with_survey_heap(given)); };
  registration({name + '/' + A::name, summary, this_backend, order, std::move(run), suite});
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
