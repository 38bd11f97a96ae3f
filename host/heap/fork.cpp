// Carries heaps over a fork: in the child, no lock of a heap is held by a thread that only the
// parent has. host_heap takes its own locks; these are the ones taken before them. Also, how CUDA
// ends for all heaps at once: in a child, and at the end of the process.
#include <pthread.h>
#include <cstddef>
#include <new>

#include "host/heap/impl.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// All heaps of the process, from the end of their construction to the beginning of their
/// destruction.
struct heap::impl::fork_list {
  /// Never destroyed: a process may fork while its static objects are being destroyed.
  static fork_list& instance() {
    alignas(fork_list) static std::byte memory[sizeof(fork_list)];
    static fork_list& list = *new (memory) fork_list;
    return list;
  }

  std::mutex mutex;  // taken before any lock of a heap
  sys_vector<impl*> heaps;
};

void heap::impl::join_forks() {
  // Installed after host_heap's handlers, which come with the first heap, so that these locks are
  // taken first.
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

/// Called by std::atexit. Registered after CUDA was initialised, so that it runs before CUDA's own
/// handlers; static objects constructed before that are destroyed after it.
void heap::impl::before_cuda_ends() {
  fork_list& list = fork_list::instance();
  const std::scoped_lock lock(list.mutex);
  for (impl* h : list.heaps) {
    if (h->is_cuda() && h->service != nullptr && !h->service->on_own_thread()) h->service->stop();
  }
  give_up_cuda("the process is ending");
}

/// The driver gives a child none of its mappings. This costs the fast paths nothing: they find no
/// cache with their heap's number, and so get to the layer.
void heap::impl::lose_memory() {
  give_up_cuda(
      "this process is a child of a fork, and only its parent has a device and its memory");
  top = &lost;
  direct = host_heap::no_id;
  (void)service.release();  // its destructor would write to the queue
}

// One kind of lock at a time, for all heaps. A thread that holds one heap's device_mutex may be
// waiting for the kernels of all heaps, and these for pages of another heap, whose service can give
// them only while its lock is not held here.
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
