#pragma once

// Samples allocations by call stack. (Go: mprof, MemProfileRate.)

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <warpheap/heap_profile.hpp>
#include <warpheap/observation.hpp>

#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// Each thread counts the bytes that it allocates down from a distance that is exponentially
/// distributed with the rate as its mean, and samples the allocation that reaches 0. So every byte
/// has the same chance to be sampled, whatever the pattern of sizes.
class profile_layer final : public object_layer {
 public:
  /// Unless `started`, nothing is sampled until start(): before a program's libraries are ready, no
  /// stack can be unwound.
  profile_layer(object_layer* below, std::size_t rate, bool started);
  ~profile_layer() override;

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  void forget() override;
  /// Samples what kernels made and freed, as allocations without a stack. Thread-safe.
  void log(const device_events& events);

  void start() { started_.store(true, std::memory_order_relaxed); }
  /// What has been sampled so far. Other calls may run meanwhile.
  heap_profile snapshot();
  /// Bytes of the records of call stacks.
  std::size_t bucket_bytes() const { return bucket_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr int max_depth = 48;
  static constexpr std::size_t heads = 1024;
  struct bucket;

  void lock_this() override;
  void unlock_this() override;
  bool chosen(std::size_t bytes);
  void sample(void* p, std::size_t bytes);
  bucket* bucket_of(void* const* stack, int depth, std::size_t bytes);

  const std::size_t rate_;
  std::atomic<bool> started_;
  const std::uint64_t id_;
  pointer_table<bucket*> sampled_;  // live sampled host objects
  // Those of kernels, apart as their events come late: by then a page may be the host's again.
  pointer_table<bucket*> sampled_of_kernels_;
  // By hash of the address, how many objects are in sampled_: most frees see 0 here and are done.
  // Relaxed: a free of an object happens after its allocation, which has counted it.
  std::array<std::atomic<std::uint32_t>, 4096> filter_{};
  std::mutex mutex_;  // guards the lists of buckets, which only grow
  std::array<bucket*, heads> buckets_{};
  std::atomic<std::size_t> bucket_bytes_{0};  // relaxed: a figure
};

}  // namespace warpheap
