// Time, random numbers and threads of the workloads. None of it allocates while the clock runs.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "bench/host/workloads.hpp"
#include "bench/stopwatch.hpp"

namespace warpheap::bench::host {

/// A small generator of random numbers (splitmix64), one for each thread.
class randoms {
 public:
  explicit randoms(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  /// Uniform in [low, high].
  std::size_t between(std::size_t low, std::size_t high) {
    return low + static_cast<std::size_t>((next() >> 32) * (high - low + 1) >> 32);
  }

 private:
  std::uint64_t state_;
};

/// The compiler must neither take the pointer for known nor leave the pair out.
inline void* opaque(void* p) {
  asm volatile("" : "+r"(p) : : "memory");
  return p;
}

/// Adds to the mallocs of the process, and to those that returned a null pointer. Thread-safe.
void note_calls(std::uint64_t mallocs, std::uint64_t nulls);

/// What the objects of this thread asked for since the last note_calls().
struct thread_calls {
  std::uint64_t mallocs = 0;
  std::uint64_t nulls = 0;

  void note() {
    note_calls(mallocs, nulls);
    *this = {};
  }
};
inline thread_local thread_calls own_calls;

/// Runs f(thread) in as many threads, which begin together; what it took from then to the last end.
template <class F>
elapsed in_threads(unsigned n, F&& f) {
  std::atomic<unsigned> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < n; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (!go) std::this_thread::yield();
      f(t);
      own_calls.note();
    });
  }
  while (ready + 1 < n) std::this_thread::yield();
  const stopwatch clock;
  go = true;
  f(0u);
  for (auto& thread : threads) thread.join();
  const elapsed took = clock.read();
  own_calls.note();
  return took;
}

/// The medians of several times that f(), which does `operations`, takes in all threads.
template <class F>
measurement medians(std::size_t bytes, const setting& how, std::size_t operations, F&& f) {
  constexpr unsigned times = 5;
  double ns[times];
  double cpu_ns[times];
  for (unsigned i = 0; i < times; ++i) {
    const elapsed took = in_threads(how.threads, f);
    ns[i] = took.ns / static_cast<double>(operations);
    cpu_ns[i] = *took.cpu_ns / static_cast<double>(operations);
  }
  std::sort(ns, ns + times);
  std::sort(cpu_ns, cpu_ns + times);
  return {bytes, ns[times / 2], cpu_ns[times / 2]};
}

void note_damage();

/// An object of a workload; its first and last byte tell its address, so that one that was handed
/// out twice shows.
struct object {
  unsigned char* p = nullptr;
  std::size_t n = 0;

  unsigned char mark() const {
    return static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(p) >> 4 ^ n);
  }
  void make(std::size_t size) { take(opaque(std::malloc(size)), size); }
  /// What a call of malloc's family gave for so many bytes.
  void take(void* given, std::size_t size) {
    n = size;
    p = static_cast<unsigned char*>(given);
    ++own_calls.mallocs;
    if (p == nullptr) {
      ++own_calls.nulls;
      return;
    }
    if (reinterpret_cast<std::uintptr_t>(p) % std::min(n & (~n + 1), sizeof(void*)) != 0)
      note_damage();
    p[0] = p[n - 1] = mark();
  }
  void drop();
};

inline void object::drop() {
  if (p == nullptr) return;
  if (p[0] != mark() || p[n - 1] != mark()) note_damage();
  std::free(p);
  p = nullptr;
}

}  // namespace warpheap::bench::host
