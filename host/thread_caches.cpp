// A thread's caches: one is made at the thread's first call on a heap; all are given back when it
// ends.
#include <new>

#include "host/heap_registry.hpp"
#include "host/host_heap.hpp"
#include "host/sys_pool.hpp"
#include "host/sys_vector.hpp"
#include "host/thread_exit.hpp"

namespace warpheap {

constinit thread_local last_cache last_used;

/// A thread's caches, one for each heap it used.
class thread_caches {
 public:
  /// nullptr when there are none yet.
  static thread_caches*& present() {
    static constinit thread_local thread_caches* caches = nullptr;
    return caches;
  }
  /// nullptr when the system has no memory, or the process is ending.
  static thread_caches* mine() {
    thread_caches*& caches = present();
    if (caches == nullptr) {
      void* p = sys_pool::alloc(sizeof(thread_caches));
      if (p == nullptr) return nullptr;
      caches = new (p) thread_caches;
      const auto end = [](void* ended) {
        present() = nullptr;
        static_cast<thread_caches*>(ended)->~thread_caches();
        sys_pool::free(ended, sizeof(thread_caches));
      };
      // Heaps find the thread by its caches: if its end cannot be reported, it counts as ended
      // already.
      if (!at_thread_exit(caches, end)) end(caches);
    }
    return caches;
  }

  mcache* find(std::uint64_t heap_id) const {
    for (const auto& [id, cache] : entries_) {
      if (id == heap_id) return cache;
    }
    return nullptr;
  }

  /// Makes room for one more entry; forgets heaps that are gone.
  bool make_room() {
    heap_registry& r = heap_registry::instance();
    const std::scoped_lock lock(r.mutex);
    entries_.erase_if([&](const auto& e) { return r.find(e.heap_id) == nullptr; });
    return entries_.reserve(entries_.size() + 1);
  }
  void add(std::uint64_t heap_id, mcache* c) { (void)entries_.push_back({heap_id, c}); }

  ~thread_caches() {
    last_used.heap_id = 0;
    last_used.set(nullptr);
    last_used.direct = nullptr;
    last_used.thread_ended = true;
    heap_registry& r = heap_registry::instance();
    // Held throughout, so that no heap goes away while its cache is given back to it.
    const std::scoped_lock lock(r.mutex);
    for (const auto& [id, cache] : entries_) {
      host_heap* const heap = r.find(id);
      if (heap == nullptr) continue;
      {
        const mcache::call guard(*cache);
        heap->flush(*cache);
      }
      heap->drop_cache(cache);
    }
  }

 private:
  struct entry {
    std::uint64_t heap_id;
    mcache* cache;
  };
  sys_vector<entry> entries_;
};

mcache* host_heap::attach_cache() {
  if (last_used.thread_ended) return nullptr;
  thread_caches* const mine = thread_caches::mine();
  if (mine == nullptr) return nullptr;
  mcache* c = mine->find(id_);
  if (c == nullptr) {
    if (!mine->make_room()) return nullptr;
    c = add_cache(&last_used);
    if (c == nullptr) return nullptr;
    mine->add(id_, c);
  }
  last_used.heap_id = id_;
  last_used.set(c);
  return c;
}

mcache* host_heap::present_cache() {
  const thread_caches* const mine = thread_caches::present();
  return mine != nullptr ? mine->find(id_) : nullptr;
}

mcache* host_heap::add_cache(last_cache* user) {
  const std::scoped_lock lock(caches_mutex_);
  if (!caches_.reserve(caches_.size() + 1)) return nullptr;
  void* p = cache_alloc_.alloc();
  if (p == nullptr) return nullptr;
  auto* c = new (p) mcache(pages_, central_);
  c->set_user(user);
  (void)caches_.push_back(c);
  return c;
}

void host_heap::drop_cache(mcache* c) {
  const std::scoped_lock lock(caches_mutex_);
  retired_.add(c->counters);
  caches_.erase_if([&](const mcache* other) { return other == c; });
  c->~mcache();
  cache_alloc_.free(c);
}

}  // namespace warpheap
