// How an allocator joins the benchmark: the whole contract, and this heap as the first to meet it.
//
//   struct my_allocator {
//     static constexpr const char* name = "mine";     // ends the names of its cases
//     explicit my_allocator(std::size_t bytes);       // init: memory for about `bytes` of objects
//     struct handle {                                 // goes to kernels by value
//       __device__ void* malloc(std::size_t size) const;   // nullptr when memory is out
//       __device__ void free(void* p) const;
//     };
//     handle device();
//   };
//
// Optional members:
//   static constexpr bool frees = false;   // free does nothing: rest() is what gives memory back
//   void rest();                           // between rounds: no kernel runs, no object is live
//   static constexpr std::size_t most = N; // sizes above N are not asked for: points of a curve
//   are
//                                          // left out, and cases skipped that need larger ones
//
// A file MINE.cu with the struct, `#include "bench/workloads.cuh"` and a static
// `warpheap::bench::workloads_of<my_allocator> registered;` puts it through every workload:
//   cmake -DWARPHEAP_BENCH_ADAPTERS="/path/MINE.cu" ...
// It is compiled in both flavours; an allocator for CUDA alone stands in #ifdef __CUDACC__.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

/// This heap. The adapter keeps what a heap costs between kernels out of the way of none: the
/// refill service runs, statistics are read between the timed parts only.
class warpheap_adapter {
 public:
  static constexpr const char* name = "warpheap";
  using handle = device_heap;

  explicit warpheap_adapter(std::size_t bytes) : heap_(options_for(bytes)) {}
  handle device() { return heap_.device(); }
  void rest() { require_empty(heap_, "between two rounds"); }
  heap& tested() { return heap_; }

 private:
  static heap_options options_for(std::size_t bytes) {
    heap_options out;
    out.backend = this_backend;
    out.reserve_bytes = bytes;
    out.report_leaks = false;  // rest() looks for them; an interrupted run leaves some
    return out;
  }
  heap heap_;
};

template <class A>
concept allocator_adapter = std::constructible_from<A, std::size_t> && std::is_trivially_copyable_v<
    typename A::handle> && requires(A a) {
  { A::name } -> std::convertible_to<const char*>;
  { a.device() } -> std::convertible_to<typename A::handle>;
};

/// True for adapters whose free gives memory back.
template <class A>
constexpr bool adapter_frees() {
  if constexpr (requires { A::frees; })
    return A::frees;
  else
    return true;
}

template <class A>
constexpr std::size_t adapter_most() {
  if constexpr (requires { A::most; })
    return A::most;
  else
    return std::numeric_limits<std::size_t>::max();
}

/// Throws no_input for an allocator that does not take objects as large as a case needs.
template <class A>
void require_sizes(std::uint64_t largest) {
  if (largest > adapter_most<A>())
    throw no_input("needs objects of " + std::to_string(largest)
                   + " bytes, and the allocator takes " + std::to_string(adapter_most<A>())
                   + " at most");
}

/// What the allocator does between rounds. This heap checks there that nothing is left.
template <class A>
void rest(A& allocator) {
  synchronize();
  if constexpr (requires { allocator.rest(); }) allocator.rest();
}

/// The heap behind an adapter; nullptr for other people's allocators.
template <class A>
heap* heap_of(A& allocator) {
  if constexpr (requires { allocator.tested(); })
    return &allocator.tested();
  else
    return nullptr;
}

template <class A>
inline constexpr bool is_warpheap = std::is_same_v<A, warpheap_adapter>;

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
