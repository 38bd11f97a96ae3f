#include "host/thread_exit.hpp"

#include <pthread.h>
#include <atomic>

#include "host/persistentalloc.hpp"

namespace warpheap {

namespace {

// By means of the C library alone: a static object with a destructor may call malloc to be
// registered, and this is called in the first malloc of a process.
pthread_once_t once = PTHREAD_ONCE_INIT;
pthread_key_t key;
std::atomic<void (*)(void*)> exit_function{nullptr};  // the same in each call
std::atomic<bool> usable{false};                      // relaxed: pthread_once orders the key

void make_key() {
  if (pthread_key_create(&key, [](void* value) { exit_function.load()(value); }) != 0)
    fatal("no key for thread-specific data is left");
  usable.store(true, std::memory_order_relaxed);
}

// If this library is in a module that is unloaded, no thread calls into it afterwards.
[[gnu::destructor]] void forget_key() {
  if (usable.exchange(false, std::memory_order_relaxed)) pthread_key_delete(key);
}

}  // namespace

bool at_thread_exit(void* value, void (*f)(void*)) {
  exit_function.store(f);
  pthread_once(&once, make_key);
  // Fails when the process is ending, or the C library has no memory for a key with a high number.
  return usable.load(std::memory_order_relaxed) && pthread_setspecific(key, value) == 0;
}

}  // namespace warpheap
