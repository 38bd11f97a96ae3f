#pragma once

// Holds a thread between two instructions of the code under test.

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace warpheap::test {

/// The next thread that writes to the system's page of `watched` is held before that write, by a
/// handler of SIGSEGV, until let_go. No other thread may write there meanwhile. One at a time.
class held_thread {
 public:
  held_thread() {
    struct sigaction action {};
    action.sa_handler = hold;
    sigaction(SIGSEGV, &action, &before_);
    state_ = waiting;
  }
  ~held_thread() { sigaction(SIGSEGV, &before_, nullptr); }
  held_thread(const held_thread&) = delete;
  held_thread& operator=(const held_thread&) = delete;

  static std::uintptr_t page_of(const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) / page_bytes();
  }
  /// False when the system refuses.
  bool watch(const void* watched) {
    page_ = reinterpret_cast<void*>(page_of(watched) * page_bytes());
    return mprotect(page_, page_bytes(), PROT_READ) == 0;
  }
  void wait_until_held() const {
    while (state_ != held) std::this_thread::yield();
  }
  bool was_held() const { return state_ != waiting; }
  void let_go() { state_ = free; }

 private:
  enum { waiting, held, free };
  static std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  static void hold(int) {
    // Without effect, and the write faults again, where it was not the watched page.
    mprotect(page_, page_bytes(), PROT_READ | PROT_WRITE);
    state_ = held;
    while (state_ != free) {
    }
  }

  static inline std::atomic<int> state_{waiting};
  static inline void* page_ = nullptr;
  struct sigaction before_ {};
};

}  // namespace warpheap::test
