// A child process goes on with the heaps of its parent, whatever the parent's other threads held.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
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

/// Children of a process whose other thread does `work` all the time: f(heap) in each comes to its
/// end.
template <class Work, class F>
void fork_beside(const heap_options& options, Work&& work, F&& f) {
  heap h(options);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) work(h);
  });
  const int rounds = warpheap::testing::scaled(60);
  for (int round = 0; round < rounds; ++round) {
    usleep(static_cast<unsigned>(300 + 37 * round));
    const int ended = in_child([&] {
      alarm(5);
      f(h);
      return 0;
    });
    EXPECT_EQ(ended, 0) << "round " << round;
    if (ended != 0) break;
  }
  stop = true;
  other.join();
}

heap_options quiet_with_service() {
  heap_options o = host_only(64_MiB);
  o.refill_service = true;
  o.on_report = [](const std::string&) {};
  return o;
}

void use_some(heap& h) {
  void* all[200];
  for (void*& p : all) p = h.malloc(100);
  for (void* p : all) h.free(p);
}

TEST(fork_test, child_finds_no_lock_of_a_layer_held) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  heap_options o = quiet_with_service();
  o.red_zones = true;
  fork_beside(o, use_some, use_some);
  o = quiet_with_service();
  o.quarantine_bytes = 1_MiB;
  fork_beside(o, use_some, use_some);
  o = quiet_with_service();
  o.trace_file = "/dev/null";
  fork_beside(o, use_some, use_some);
  o = quiet_with_service();
  o.profile_rate = 1;
  fork_beside(o, use_some, use_some);
}

TEST(fork_test, child_reports_wrong_frees) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  const auto wrong = [](heap& h) { h.free(&h); };
  fork_beside(quiet_with_service(), wrong, wrong);
}

TEST(fork_test, child_does_bulk_operations_and_ends_the_heap) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  // Stays with the parent in the parent, and goes in the child.
  fork_beside(quiet_with_service(), use_some, [](heap& h) {
    void* kept = h.malloc(1000);
    h.trim();
    if (h.stats().host.live_objects == 0) _exit(2);
    h.synchronize();
    h.free(kept);
    h.reset();
    use_some(h);
    heap ended = std::move(h);
  });
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
