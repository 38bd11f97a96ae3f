// A heap is carried over a fork: no lock of it is held in the child by a thread that only the
// parent has. host_heap cares for its own locks; these are the ones that are taken before them.
// And what ends for all heaps on CUDA at once: in a child, and with the process.
#include <pthread.h>
#include <cstddef>
#include <new>

#include "host/heap/impl.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// All heaps of the process that have been made and do not end yet.
struct heap::impl::fork_list {
  /// Never destroyed: a process may fork while its static objects go.
  static fork_list& instance() {
    alignas(fork_list) static std::byte memory[sizeof(fork_list)];
    static fork_list& list = *new (memory) fork_list;
    return list;
  }

  std::mutex mutex;  // taken before all locks of a heap
  sys_vector<impl*> heaps;
};

void heap::impl::join_forks() {
  // After host_heap's, which were installed with the first heap: so these locks are taken first.
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] {
    pthread_atfork(
        before_fork, [] { after_fork(false); }, [] { after_fork(true); });
  });
  fork_list& list = fork_list::instance();
  const std::scoped_lock lock(list.mutex);
  if (!list.heaps.push_back(this)) throw std::bad_alloc();
}

void heap::impl::leave_forks() noexcept {
  fork_list& list = fork_list::instance();
  const std::scoped_lock lock(list.mutex);
  list.heaps.erase_if([this](const impl* other) { return other == this; });
}

/// By std::atexit, registered when CUDA has been initialised: so it comes before CUDA's own
/// handlers. Objects of static lifetime that were constructed before that go after it.
void heap::impl::before_cuda_ends() {
  fork_list& list = fork_list::instance();
  const std::scoped_lock lock(list.mutex);
  for (impl* h : list.heaps) {
    if (h->is_cuda() && h->service != nullptr && !h->service->on_own_thread()) h->service->stop();
  }
  give_up_cuda("the process is ending");
}

/// The driver gives none of its mappings to a child. No fast path is longer for it: they find no
/// cache of their heap's number, and come to the layer.
void heap::impl::lose_memory() {
  give_up_cuda(
      "this process is a child of a fork, and only its parent has a device and its memory");
  top = &lost;
  direct = host_heap::no_id;
  (void)service.release();  // what is left of it would write to the queue
}

// A kind of lock at a time, of all heaps. Who holds the device_mutex of one may wait for the
// kernels of all, and they for pages of another heap, which its service gives as long as nobody
// here holds that.
void heap::impl::before_fork() {
  fork_list& list = fork_list::instance();
  list.mutex.lock();
  for (impl* h : list.heaps) h->events_mutex.lock();
  for (impl* h : list.heaps) h->device_mutex.lock();
  for (impl* h : list.heaps) {
    if (h->service != nullptr) h->service->lock();
  }
  for (impl* h : list.heaps) h->marks_mutex.lock();
  for (impl* h : list.heaps) {
    h->frees_mutex.lock();
    h->errors.lock();
    if (h->top != nullptr) h->top->lock();
  }
}

void heap::impl::after_fork(bool in_child) {
  fork_list& list = fork_list::instance();
  for (impl* h : list.heaps) {
    if (h->top != nullptr) h->top->unlock();
    h->errors.unlock();
    h->frees_mutex.unlock();
  }
  for (impl* h : list.heaps) {
    h->marks_mutex.unlock();
    if (h->service == nullptr) continue;
    if (in_child) h->service->forget_thread();
    h->service->unlock();
  }
  for (impl* h : list.heaps) {
    if (in_child) h->is_of_parent = true;
    if (in_child && h->is_cuda()) h->lose_memory();
    h->device_mutex.unlock();
    h->events_mutex.unlock();
  }
  list.mutex.unlock();
}

}  // namespace warpheap
