// What a child of a fork has of its parent's heap on CUDA: nothing, and it is told so.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstring>
#include <utility>
#include <warpheap/heap.hpp>

namespace warpheap::testing {

/// Whether f throws a heap_error that tells of the fork.
template <class F>
bool tells_of_the_fork(F&& f) {
  try {
    f();
  } catch (const heap_error& error) {
    return std::strstr(error.what(), "fork") != nullptr;
  }
  return false;
}

struct parents_objects {
  void *small, *tiny, *large, *stack;
};

/// 0, or the number of the first thing that is not as it should be.
inline int use_in_child(heap& h, const parents_objects& objects) {
  h.free(nullptr);
  h.free(objects.small);
  h.free(objects.tiny);
  h.free(objects.large);
  h.free(&h);
  h.release_stack(objects.stack, 4096);
  if (h.malloc(100) != nullptr || h.malloc(0) != nullptr || h.malloc(1 << 20) != nullptr) return 1;
  if (h.calloc(3, 30) != nullptr || h.aligned_alloc(64, 64) != nullptr) return 2;
  if (h.realloc(objects.large, 1 << 20) != nullptr || h.acquire_stack(4096) != nullptr) return 3;
  h.set_memory_limit(8 << 20);
  h.start_refill_service();
  h.stop_refill_service();
  (void)h.memory();
  (void)h.profile();
  if (!tells_of_the_fork([&] { h.synchronize(); })) return 4;
  if (!tells_of_the_fork([&] { (void)h.stats(); })) return 5;
  if (!tells_of_the_fork([&] { h.trim(); })) return 6;
  if (!tells_of_the_fork([&] { h.reset(); })) return 7;
  if (!tells_of_the_fork([&] { (void)h.sweep(); })) return 8;
  if (!tells_of_the_fork([&] { (void)h.mark_reachable(objects.large); })) return 9;
  if (!tells_of_the_fork([&] { (void)h.sweep_device(); })) return 10;
  if (!tells_of_the_fork([&] { (void)h.state_text(); })) return 11;
  if (!tells_of_the_fork([&] { const heap another(h.options()); })) return 12;
  return 0;
}

/// f() in a child: its exit status, or the negative signal.
template <class F>
int status_of_child(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(f());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// On a heap with these options, for CUDA and without reports.
inline void expect_nothing_in_a_child(const heap_options& options) {
  heap h(options);
  const parents_objects objects{h.malloc(100), h.malloc(3), h.malloc(50000), h.acquire_stack(4096)};
  EXPECT_EQ(status_of_child([&] {
              const int bad = use_in_child(h, objects);
              if (bad != 0) return bad;
              const int in_grandchild = status_of_child([&] { return h.malloc(10) == nullptr; });
              const heap ended = std::move(h);
              return in_grandchild == 1 ? 0 : 20;
            }),
            0);
  // The parent's is as it was.
  std::memset(objects.large, 1, 50000);
  EXPECT_EQ(h.stats().host.live_objects, 3u);
  h.free(objects.small);
  h.free(objects.tiny);
  h.free(objects.large);
  h.release_stack(objects.stack, 4096);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

}  // namespace warpheap::testing
