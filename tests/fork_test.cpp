// A child process goes on with the heaps of its parent, whatever the parent's other threads held.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "host/host_heap.hpp"
#include "tests/host_only.hpp"
#include "tests/host_region.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::host_only;

/// f() in a child; its exit status, or the negative signal that ended it.
template <class F>
int in_child(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(f());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#ifdef __SANITIZE_THREAD__
constexpr bool can_fork = false;  // the tool ends children of processes that have threads
#else
constexpr bool can_fork = true;
#endif

TEST(fork_test, child_uses_the_heap_while_threads_of_the_parent_do) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  heap h(host_only(256_MiB));
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<void*> mine;
      for (unsigned i = 0; !stop; ++i) {
        mine.push_back(h.malloc(i * 37 % 3000 + unsigned(t)));
        if (i % 8 == 0) h.free(h.malloc(50000));
        if (mine.size() == 400) {
          for (void* p : mine) h.free(p);
          mine.clear();
        }
      }
      for (void* p : mine) h.free(p);
    });
  }
  void* before = h.malloc(200);
  std::memset(before, 5, 200);
  for (int round = 0; round < warpheap::testing::scaled(20); ++round) {
    ASSERT_EQ(in_child([&] {
                if (static_cast<char*>(before)[199] != 5) return 1;
                h.free(before);
                std::vector<void*> mine;
                for (unsigned i = 0; i < 2000; ++i) {
                  void* p = h.malloc(i * 53 % 40000 + 1);
                  if (p == nullptr) return 2;
                  std::memset(p, 1, i * 53 % 40000 + 1);
                  mine.push_back(p);
                }
                for (void* p : mine) h.free(p);
                test::host_region region{16_MiB};
                host_heap own(region.base(), region.bytes(), region.source());
                void* p = own.malloc(100);
                return own.free(p) == free_status::ok && h.usable_size(before) == 0 ? 0 : 3;
              }),
              0)
        << "round " << round;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  h.free(before);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

TEST(fork_test, child_starts_threads_and_forks_again) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  heap h(host_only(256_MiB));
  h.free(h.malloc(10));
  EXPECT_EQ(in_child([&] {
              std::thread([&] { h.free(h.malloc(1000)); }).join();
              return in_child([&] {
                std::thread([&] { h.free(h.malloc(1000)); }).join();
                return h.malloc(5) != nullptr ? 7 : 1;
              });
            }),
            7);
}

}  // namespace
