// Construction and destruction of a heap, and what it does around a fork.
#include "host/host_heap.hpp"

#include <pthread.h>
#include <algorithm>

#include "host/fork_gate.hpp"
#include "host/heap_registry.hpp"
#include "host/sys_pool.hpp"

namespace warpheap {

namespace {

std::uint64_t register_heap(host_heap* h) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] {
    pthread_atfork(host_heap::before_fork, host_heap::after_fork, host_heap::after_fork_in_child);
  });
  heap_registry& r = heap_registry::instance();
  const std::scoped_lock lock(r.mutex);
  return r.add(h);
}

}  // namespace

host_heap::host_heap(std::byte* base, std::size_t reserve_bytes, const page_source& source)
    : pages_(base, reserve_bytes, source), central_(pages_), id_(register_heap(this)) {
  cache_alloc_.init(pages_.metadata(), sizeof(mcache), alignof(mcache), cache_sys_, nullptr,
                    nullptr, /*zero=*/false);
}

host_heap::~host_heap() {
  heap_registry& r = heap_registry::instance();
  const std::scoped_lock lock(r.mutex);
  r.remove(id_);
  // A thread that ends from now on waits for the registry's lock, and then finds the heap gone.
  const std::scoped_lock caches(caches_mutex_);
  for (mcache* c : caches_) c->forget_user();
}

void host_heap::before_fork() {
  heap_registry& r = heap_registry::instance();
  r.mutex.lock();
  // Before any lock that a slow path takes.
  fork_gate::close();
  for (const auto& [id, heap] : r.heaps) heap->wait_for_calls();
  for (const auto& [id, heap] : r.heaps) {
    heap->caches_mutex_.lock();
    heap->central_.lock();
    heap->stacks_.lock();
    heap->regions_.lock();
    heap->pages_.lock();
  }
  sys_pool::lock();
}

/// Waits, for a limited time, until no other thread is in a slow path.
void host_heap::wait_for_calls() {
  fork_gate::wait_until([this] {
    const std::scoped_lock lock(caches_mutex_);
    // A signal handler that forks may have interrupted a call of its own thread.
    const mcache* const own = present_cache();
    return std::none_of(caches_.begin(), caches_.end(),
                        [&](const mcache* c) { return c != own && !c->lost && c->in_call(); });
  });
}

// The other threads' caches stay as the fork found them, and are lost to the child until memory is
// short (recover_lost_caches). A cache whose thread was in a slow path too long to wait for is lost
// until the next bulk free, which goes by the spans and not by these caches. Objects allocated from
// lost caches can be freed.
void host_heap::after_fork_in_child() {
  for (const auto& [id, heap] : heap_registry::instance().heaps) {
    heap->is_forked_ = true;
    const mcache* const own = heap->present_cache();
    for (mcache* c : heap->caches_) {
      c->lost = c->lost || c != own;
      c->keep_user(&last_used);
    }
  }
  after_fork();
}

void host_heap::after_fork() {
  sys_pool::unlock();
  heap_registry& r = heap_registry::instance();
  for (const auto& [id, heap] : r.heaps) {
    heap->pages_.unlock();
    heap->regions_.unlock();
    heap->stacks_.unlock();
    heap->central_.unlock();
    heap->caches_mutex_.unlock();
  }
  fork_gate::open();
  r.mutex.unlock();
}

}  // namespace warpheap
