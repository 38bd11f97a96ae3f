#include "host/layers/profile.hpp"

#include <execinfo.h>
#include <algorithm>
#include <cmath>

#include "host/sys_pool.hpp"

namespace warpheap {

struct profile_layer::bucket {
  bucket* next;
  std::size_t object_bytes;
  std::atomic<std::uint64_t> allocs;
  std::atomic<std::uint64_t> frees;
  int depth;
  void* stack[max_depth];

  static std::size_t size_for(int depth) {
    return offsetof(bucket, stack) + static_cast<std::size_t>(depth) * sizeof(void*);
  }
};

namespace {

/// A thread's distance to its next sample. Trivial, so that it can be used at any time in a
/// thread's life.
struct countdown {
  std::uint64_t layer = 0;  // whose distance it is
  std::int64_t left = 0;
  std::uint64_t random = 0;
  bool busy = false;  // the thread is taking a sample: its own allocations are not sampled
};
constinit thread_local countdown mine;

std::atomic<std::uint64_t> last_id{0};
std::atomic<std::uint64_t> seeds{0x9e3779b97f4a7c15};

/// Uniform in (0, 1].
double uniform(std::uint64_t& state) {
  if (state == 0) state = seeds.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed) | 1;
  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<double>((state * 0x2545f4914f6cdd1d >> 11) + 1) * 0x1p-53;
}

std::int64_t distance(std::size_t rate) {
  if (rate <= 1) return 0;
  const double d = -std::log(uniform(mine.random)) * static_cast<double>(rate);
  return static_cast<std::int64_t>(std::min(d, 9e18));
}

std::size_t filter_index(const void* p) {
  return (reinterpret_cast<std::uintptr_t>(p) >> 3) * 0x9e3779b97f4a7c15 >> 52;
}

}  // namespace

profile_layer::profile_layer(object_layer* below, std::size_t rate, bool started)
    : object_layer(below),
      rate_(rate),
      started_(started),
      id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {}

profile_layer::~profile_layer() {
  for (bucket* b : buckets_) {
    while (b != nullptr) {
      bucket* next = b->next;
      sys_pool::free(b, bucket::size_for(b->depth));
      b = next;
    }
  }
}

void* profile_layer::take(const object_request& r) {
  void* p = below().take(r);
  if (p == nullptr || r.bytes == 0 || mine.busy) return p;
  if (chosen(r.bytes) && started_.load(std::memory_order_relaxed)) sample(p, r.bytes);
  return p;
}

/// Whether the calling thread's next sample is in these bytes.
bool profile_layer::chosen(std::size_t bytes) {
  // The distribution is memoryless: a thread that comes from another heap may as well get a new
  // distance.
  if (mine.layer != id_) {
    mine.layer = id_;
    mine.left = distance(rate_);
  }
  if (static_cast<std::uint64_t>(mine.left) > bytes) {
    mine.left -= static_cast<std::int64_t>(bytes);
    return false;
  }
  mine.left = distance(rate_);
  return true;
}

void profile_layer::log(const device_events& taken) {
  for (const device_event& e : taken.events) {
    const void* p = reinterpret_cast<const void*>(e.address);
    if (e.op == device_op::malloc && chosen(e.bytes)) {
      bucket* b = bucket_of(nullptr, 0, e.bytes);
      if (b == nullptr) continue;
      b->allocs.fetch_add(1, std::memory_order_relaxed);
      // Untracked, its free would not be counted, and it would count as live for ever.
      if (!sampled_of_kernels_.put(p, b)) b->frees.fetch_add(1, std::memory_order_relaxed);
    } else if (e.op == device_op::free && e.cls != no_class) {
      if (const auto b = sampled_of_kernels_.take(p); b)
        (*b)->frees.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

void profile_layer::sample(void* p, std::size_t bytes) {
  mine.busy = true;
  void* stack[max_depth + 2];
  // This function and take are left out. No lock is held, as the unwinder takes the loader's.
  const int depth = backtrace(stack, max_depth + 2);
  const int skip = std::min(depth, 2);
  if (bucket* b = bucket_of(stack + skip, depth - skip, bytes); b != nullptr) {
    b->allocs.fetch_add(1, std::memory_order_relaxed);
    filter_[filter_index(p)].fetch_add(1, std::memory_order_relaxed);
    if (!sampled_.put(p, b)) {
      // As in log.
      filter_[filter_index(p)].fetch_sub(1, std::memory_order_relaxed);
      b->frees.fetch_add(1, std::memory_order_relaxed);
    }
  }
  mine.busy = false;
}

profile_layer::bucket* profile_layer::bucket_of(void* const* stack, int depth, std::size_t bytes) {
  std::uint64_t h = bytes;
  for (int i = 0; i < depth; ++i)
    h = (h ^ reinterpret_cast<std::uintptr_t>(stack[i])) * 0x9e3779b97f4a7c15;
  bucket*& head = buckets_[h >> 54];
  const std::scoped_lock lock(mutex_);
  for (bucket* b = head; b != nullptr; b = b->next) {
    if (b->object_bytes == bytes && b->depth == depth && std::equal(stack, stack + depth, b->stack))
      return b;
  }
  void* memory = sys_pool::alloc(bucket::size_for(depth));
  if (memory == nullptr) return nullptr;
  auto* b = static_cast<bucket*>(memory);
  b->next = head;
  b->object_bytes = bytes;
  new (&b->allocs) std::atomic<std::uint64_t>(0);
  new (&b->frees) std::atomic<std::uint64_t>(0);
  b->depth = depth;
  std::copy_n(stack, depth, b->stack);
  head = b;
  bucket_bytes_.fetch_add(bucket::size_for(depth), std::memory_order_relaxed);
  return b;
}

free_status profile_layer::free(void* p) {
  if (filter_[filter_index(p)].load(std::memory_order_relaxed) != 0) {
    if (const auto b = sampled_.take(p); b) {
      filter_[filter_index(p)].fetch_sub(1, std::memory_order_relaxed);
      (*b)->frees.fetch_add(1, std::memory_order_relaxed);
    }
  }
  return below().free(p);
}

void profile_layer::forget() {
  for (pointer_table<bucket*>* table : {&sampled_, &sampled_of_kernels_}) {
    table->for_each(
        [](const void*, bucket*& b) { b->frees.fetch_add(1, std::memory_order_relaxed); });
    table->clear();
  }
  for (auto& count : filter_) count.store(0, std::memory_order_relaxed);
  below().forget();
}

heap_profile profile_layer::snapshot() {
  // What this allocates from the heap itself is not sampled: that would wait for the lock below.
  const bool before = mine.busy;
  mine.busy = true;
  heap_profile profile;
  try {
    profile.rate = rate_;
    for (bucket*& head : buckets_) {
      bucket* first = nullptr;
      {
        const std::scoped_lock lock(mutex_);
        first = head;
      }
      // Buckets are never moved or removed, and new ones are added in front.
      for (const bucket* b = first; b != nullptr; b = b->next) {
        heap_profile::bucket& out = profile.buckets.emplace_back();
        out.object_bytes = b->object_bytes;
        out.frees = b->frees.load(std::memory_order_relaxed);
        out.allocs = std::max(b->allocs.load(std::memory_order_relaxed), out.frees);
        for (int i = 0; i < b->depth; ++i)
          out.stack.push_back(reinterpret_cast<std::uintptr_t>(b->stack[i]));
      }
    }
  } catch (...) {
    mine.busy = before;
    throw;
  }
  mine.busy = before;
  return profile;
}

void profile_layer::lock_this() {
  mutex_.lock();
  sampled_.lock();
  sampled_of_kernels_.lock();
}
void profile_layer::unlock_this() {
  sampled_of_kernels_.unlock();
  sampled_.unlock();
  mutex_.unlock();
}

}  // namespace warpheap
