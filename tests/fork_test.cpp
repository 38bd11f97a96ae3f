// A child process goes on with the heaps of its parent, whatever the parent's other threads held.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>
#include <warpheap/heap.hpp>

#include "host/host_heap.hpp"
#include "host/layers/object_layer.hpp"
#include "tests/held_thread.hpp"
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

// Of threads that were not in the middle of anything.
TEST(fork_test, child_gets_what_threads_of_the_parent_had_kept) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  test::host_region region{64_MiB};
  host_heap h(region.base(), region.bytes(), region.source());
  std::vector<void*> objects;
  std::atomic<bool> done{false}, stop{false};
  std::thread other([&] {
    void* const stack = h.acquire_stack(4096);
    for (void* p; (p = h.malloc(1000)) != nullptr;) objects.push_back(p);
    for (void* p; (p = h.malloc(5)) != nullptr && objects.size() < 100'000;) objects.push_back(p);
    for (std::size_t i = 0; i < objects.size(); i += 2) (void)h.free(objects[i]);
    done = true;
    while (!stop) std::this_thread::yield();
    h.release_stack(stack, 4096);
  });
  while (!done) std::this_thread::yield();
  const int ended = in_child([&] {
    const std::size_t kept = h.stats().pages_in_use;
    for (std::size_t i = 1; i < objects.size(); i += 2)
      if (h.free(objects[i]) != free_status::ok) return 1;
    const std::uint64_t caches = h.stats().thread_caches;
    // All but the pages of the stack can be had, for another class.
    std::size_t bytes = 0;
    for (void* p; (p = h.malloc(100'000)) != nullptr;) bytes += h.usable_size(p);
    if (bytes < 62_MiB || kept * page_size < 60_MiB) return 2;
    return h.stats().thread_caches == caches - 1 ? 0 : 3;
  });
  EXPECT_EQ(ended, 0);
  stop = true;
  other.join();
}

// A fork waits for the end of a slow path, so that the thread's cache can be given back.
TEST(fork_test, child_gets_what_a_thread_kept_that_was_in_slow_paths) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  test::host_region region{256_MiB};
  host_heap h(region.base(), region.bytes(), region.source());
  (void)h.free(h.malloc(100));
  std::atomic<bool> started{false}, stop{false};
  std::thread other([&] {
    // Large objects of many sizes: each call goes the slow way, most to the pages.
    for (std::size_t i = 0; !stop; ++i) {
      (void)h.free(h.malloc((i * 7 % 90 + 5) * page_size));
      started = true;
    }
  });
  while (!started) std::this_thread::yield();
  for (int round = 0; round < warpheap::testing::scaled(20); ++round) {
    EXPECT_EQ(in_child([&] {
                (void)h.trim();
                const host_heap_stats st = h.stats();
                return st.thread_caches == 1 && st.pages_in_use <= 100 ? 0 : 1;
              }),
              0)
        << "round " << round;
    usleep(static_cast<unsigned>(round) * 7);
  }
  stop = true;
  other.join();
}

/// Children of a process whose other thread does `work` all the time: f(heap) in each comes to its
/// end.
template <class Work, class F>
void fork_beside(const heap_options& options, Work&& work, F&& f, int forks = 60) {
  heap h(options);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) work(h);
  });
  const int rounds = warpheap::testing::scaled(forks);
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

std::uint64_t foreign_frees(heap& h) {
  return h.stats().errors[static_cast<unsigned>(error_kind::foreign_pointer)];
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

TEST(fork_test, child_resets_a_heap_whose_other_thread_was_about_to_hold_a_fenced_object_back) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  heap_options o = quiet_with_service();
  o.reserve_bytes = 16_MiB;
  o.efence = true;
  const auto take_and_free = [](heap& h) { h.free(h.malloc(100)); };
  const auto touch_all = [](heap& h) {
    h.reset();
    while (void* p = h.malloc(100'000)) std::memset(p, 1, 100'000);
  };
  fork_beside(o, take_and_free, touch_all, 10);
}

TEST(fork_test, child_reports_wrong_frees) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  const auto wrong = [](heap& h) { h.free(&h); };
  fork_beside(quiet_with_service(), wrong, [](heap& h) {
    int not_of_the_heap = 0;
    (void)h.errors();  // those of the parent
    const std::uint64_t before = foreign_frees(h);
    h.free(&not_of_the_heap);
    const std::vector<error_record> found = h.errors();
    if (found.size() != 1 || found[0].kind != error_kind::foreign_pointer) _exit(2);
    if (found[0].address != reinterpret_cast<std::uint64_t>(&not_of_the_heap)) _exit(3);
    if (foreign_frees(h) != before + 1) _exit(4);
  });
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

// What a child of a process with a heap on CUDA calls (cuda_test.cu).
TEST(fork_test, of_lost_memory_nothing_can_be_had_or_freed) {
  test::host_region region{64_MiB};
  host_heap h(region.base(), region.bytes(), region.source());
  void* const p = h.malloc(100);
  lost_layer lost(h);
  EXPECT_EQ(layer_malloc(lost, 100, contents::no_pointers), nullptr);
  EXPECT_EQ(layer_calloc(lost, 1, 100, contents::no_pointers), nullptr);
  EXPECT_EQ(layer_aligned_alloc(lost, 64, 64, contents::no_pointers), nullptr);
  EXPECT_EQ(lost.usable_size(p), h.usable_size(p));
  EXPECT_EQ(lost.free(p), free_status::null);
  EXPECT_EQ(lost.free(&h), free_status::null);
  EXPECT_EQ(h.stats().live_objects, 1u);
}

// What other threads of the parent did at the moment of the fork, the child finds half done.

TEST(fork_test, child_resets_a_heap_that_threads_swept_and_made_spans_in) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  test::host_region region{512_MiB};
  host_heap h(region.base(), region.bytes(), region.source());
  for (int round = 0; round < warpheap::testing::scaled(40); ++round) {
    for (int i = 0; i < 8000; ++i) ASSERT_NE(h.malloc(8192), nullptr);
    h.reset();
    std::atomic<int> ready{0};
    std::atomic<bool> stop{false};
    std::thread sweeper([&] {
      ++ready;
      while (h.sweep_some(1)) {
      }
    });
    std::thread maker([&] {
      ++ready;
      while (!stop) (void)h.malloc(8192);
    });
    while (ready < 2) std::this_thread::yield();
    usleep(unsigned(round) * 7 % 300);
    const int status = in_child([&] {
      // Aborts when a span is not found, or found twice.
      for (int i = 0; i < 3; ++i) {
        h.reset();
        if (h.malloc(8192) == nullptr) return 1;
      }
      h.reset();
      while (h.sweep_some(1000)) {
      }
      const page_recount pages = h.recount_pages();
      return h.stats().spans != 0 || pages.spans != 0 || pages.unswept_spans != 0 ? 2 : 0;
    });
    stop = true;
    sweeper.join();
    maker.join();
    ASSERT_EQ(status, 0) << "round " << round;
    h.reset();
  }
}

TEST(fork_test, child_resets_a_heap_whose_other_thread_was_changing_a_list) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  test::host_region region{512_MiB};
  host_heap h(region.base(), region.bytes(), region.source());
  const auto span_of = [&](void* p) {
    return h.pages()
        .owner(static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base()) / page_size)
        .span();
  };
  test::held_thread held;
  std::thread other([&] {
    std::vector<void*> all;
    for (int i = 0; i < 4000; ++i) all.push_back(h.malloc(8192));
    // Two full spans whose records share no page with each other or with the current span's. The
    // first one is this thread's again, and in a list; then the second one goes behind it, which
    // begins in its own record.
    void* const first = all[1000];
    void* const second = all[3000];
    EXPECT_GT(held.page_of(span_of(second)), held.page_of(span_of(first)) + 2);
    EXPECT_EQ(h.free(first), free_status::ok);
    EXPECT_TRUE(held.watch(span_of(first)));
    EXPECT_EQ(h.free(second), free_status::ok);
    for (void* p : all)
      EXPECT_EQ(p == first || p == second ? free_status::ok : h.free(p), free_status::ok);
  });
  held.wait_until_held();
  const int status = in_child([&] {
    for (int i = 0; i < 3; ++i) {
      h.reset();
      for (int k = 0; k < 1000; ++k)
        if (h.malloc(8192) == nullptr) return 1;
    }
    h.reset();
    while (h.sweep_some(1000)) {
    }
    return h.stats().spans == 0 ? 0 : 2;
  });
  held.let_go();
  other.join();
  EXPECT_EQ(status, 0);
  EXPECT_EQ(h.stats().live_objects, 0u);
}

/// A thread that has used the heap and lives, on a stack that a child can take away, and with it
/// where the thread found its cache.
class thread_beside {
 public:
  explicit thread_beside(host_heap& h) : heap_(h) {
    stack_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(stack_, MAP_FAILED);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    EXPECT_EQ(pthread_attr_setstack(&attributes, stack_, bytes), 0);
    EXPECT_EQ(pthread_create(
                  &thread_, &attributes,
                  [](void* self) -> void* {
                    static_cast<thread_beside*>(self)->work();
                    return nullptr;
                  },
                  this),
              0);
    pthread_attr_destroy(&attributes);
    while (object_ == nullptr) std::this_thread::yield();
  }
  ~thread_beside() {
    stop_ = true;
    pthread_join(thread_, nullptr);
    take_stack();
  }
  thread_beside(const thread_beside&) = delete;
  thread_beside& operator=(const thread_beside&) = delete;

  void take_stack() { munmap(stack_, bytes); }
  /// An object that it has until its end.
  void* object() const { return object_; }

 private:
  static constexpr std::size_t bytes = 1_MiB;

  void work() {
    void* const p = heap_.malloc(100);
    object_ = p;
    while (!stop_) std::this_thread::yield();
    EXPECT_EQ(heap_.free_fast(p, heap_.view()), host_heap::fast_free::done);
  }

  host_heap& heap_;
  void* stack_;
  pthread_t thread_{};
  std::atomic<void*> object_{nullptr};
  std::atomic<bool> stop_{false};
};

/// In a child, whose thread frees what the one beside it in the parent has, after each of some bulk
/// operations too.
int end_cycles(std::unique_ptr<host_heap>& h, thread_beside& beside) {
  beside.take_stack();
  if (h->free(beside.object()) != free_status::ok) return 1;
  for (int i = 0; i < 3; ++i) {
    void* const p = h->malloc(100);
    void* q = nullptr;
    std::thread([&] {
      q = h->malloc(100);
      std::thread([&] { i == 1 ? (void)h->sweep() : h->reset(); }).join();
      if (last_used.get() != nullptr) _exit(2);
    }).join();
    if (last_used.get() != nullptr) return 3;
    for (void* gone : {p, q})
      if (h->free(gone) != free_status::double_free) return 4;
    if (h->stats().live_objects != 0 || h->free(h->malloc(100)) != free_status::ok) return 5;
  }
  return 0;
}

TEST(fork_test, child_ends_caches_of_threads_that_only_the_parent_has) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  test::host_region region{64_MiB};
  auto h = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
  void* const kept = h->malloc(100);
  {
    thread_beside beside(*h);
    EXPECT_EQ(in_child([&] { return end_cycles(h, beside); }), 0);
    // One that is lost for longer.
    EXPECT_EQ(in_child([&] { return in_child([&] { return end_cycles(h, beside); }); }), 0);
    EXPECT_EQ(in_child([&] {
                beside.take_stack();
                h = nullptr;
                if (last_used.get() != nullptr) return 1;
                h = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
                return h->free(h->malloc(100)) == free_status::ok ? 0 : 2;
              }),
              0);
  }
  EXPECT_EQ(h->free_fast(kept, h->view()), host_heap::fast_free::done);
  EXPECT_EQ(h->stats().live_objects, 0u);
}

/// A heap that a handler of the program's own uses, as long as it is set.
heap* used_by_handler = nullptr;
unsigned made_by_handler = 0;

TEST(fork_test, handlers_of_the_program_allocate_in_slow_paths) {
  if (!can_fork) GTEST_SKIP() << "ThreadSanitizer allows no child that has threads";
  // The first to be registered is the last to run before a fork, after the heap's own. As a program
  // of its own, that is what this is (ctest runs each test in one).
  pthread_atfork(
      [] {
        if (used_by_handler == nullptr) return;
        // On through the words of a span, which takes no lock.
        for (int i = 0; i < 150; ++i) made_by_handler += used_by_handler->malloc(48) != nullptr;
      },
      nullptr, nullptr);
  heap h(host_only(64_MiB));
  ASSERT_NE(h.malloc(48), nullptr);
  used_by_handler = &h;
  alarm(60);
  EXPECT_EQ(in_child([&] { return h.malloc(48) != nullptr ? 0 : 1; }), 0);
  alarm(0);
  used_by_handler = nullptr;
  EXPECT_EQ(made_by_handler, 150u);
  h.reset();
}

}  // namespace
