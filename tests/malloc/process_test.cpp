// The preloaded library in the life of a process: start, threads, forks, libraries, signals, end.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/malloc/process.hpp"

namespace {

using warpheap::test::ended;
using warpheap::test::in_child;

// --- start: what came before main is looked at in the tests ------------------

std::array<char*, 100> early;

/// Before the constructors of any library.
void allocate_early(int, char**, char**) {
  for (std::size_t i = 0; i < early.size(); ++i) {
    early[i] = static_cast<char*>(malloc(i * 50 + 1));
    std::memset(early[i], static_cast<int>(i), i * 50 + 1);
  }
}
[[gnu::section(".preinit_array"), gnu::used]] void (*const preinit)(int, char**,
                                                                    char**) = allocate_early;

struct late {
  std::vector<std::string> texts{std::vector<std::string>(50, std::string(100, 'x'))};
  ~late() { texts.assign(10, std::string(1000, 'y')); }
};
late destroyed_at_the_end;

TEST(process_test, every_function_is_the_librarys) {
  Dl_info ours{};
  for (const char* name : {"malloc",
                           "calloc",
                           "realloc",
                           "reallocarray",
                           "free",
                           "memalign",
                           "posix_memalign",
                           "aligned_alloc",
                           "valloc",
                           "pvalloc",
                           "malloc_usable_size",
                           "malloc_trim",
                           "_Znwm",
                           "_Znam",
                           "_ZnwmRKSt9nothrow_t",
                           "_ZnamRKSt9nothrow_t",
                           "_ZnwmSt11align_val_t",
                           "_ZnamSt11align_val_t",
                           "_ZnwmSt11align_val_tRKSt9nothrow_t",
                           "_ZnamSt11align_val_tRKSt9nothrow_t",
                           "_ZdlPv",
                           "_ZdaPv",
                           "_ZdlPvRKSt9nothrow_t",
                           "_ZdaPvRKSt9nothrow_t",
                           "_ZdlPvm",
                           "_ZdaPvm",
                           "_ZdlPvSt11align_val_t",
                           "_ZdaPvSt11align_val_t",
                           "_ZdlPvmSt11align_val_t",
                           "_ZdaPvmSt11align_val_t",
                           "_ZdlPvSt11align_val_tRKSt9nothrow_t",
                           "_ZdaPvSt11align_val_tRKSt9nothrow_t"}) {
    void* p = dlsym(RTLD_DEFAULT, name);
    ASSERT_NE(p, nullptr) << name;
    ASSERT_NE(dladdr(p, &ours), 0) << name;
    EXPECT_NE(std::strstr(ours.dli_fname, "warpheap"), nullptr) << name << " of " << ours.dli_fname;
  }
}

TEST(process_test, objects_from_before_all_constructors) {
  for (std::size_t i = 0; i < early.size(); ++i) {
    ASSERT_GE(malloc_usable_size(early[i]), i * 50 + 1);
    EXPECT_EQ(early[i][i * 50], static_cast<char>(i));
    free(early[i]);
    EXPECT_EQ(malloc_usable_size(early[i]), 0u);
  }
}

// --- new and delete ----------------------------------------------------------

volatile std::size_t too_much = SIZE_MAX / 4;

struct alignas(512) wide {
  char bytes[512];
};

TEST(process_test, new_and_delete) {
  std::vector<std::unique_ptr<int[]>> arrays;
  for (std::size_t i = 0; i < 1000; ++i) arrays.push_back(std::make_unique<int[]>(i));
  for (int i = 0; i < 100; ++i) {
    const auto one = std::make_unique<wide>();
    const auto many = std::make_unique<wide[]>(3);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.get()) % 512, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(many.get()) % 512, 0u);
  }
  EXPECT_THROW((void)operator new(too_much), std::bad_alloc);
  EXPECT_THROW((void)operator new[](too_much), std::bad_alloc);
  EXPECT_THROW((void)operator new (too_much, std::align_val_t{64}), std::bad_alloc);
  EXPECT_THROW((void)operator new[](too_much, std::align_val_t{64}), std::bad_alloc);
  EXPECT_EQ(operator new(too_much, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](too_much, std::nothrow), nullptr);
  EXPECT_EQ(operator new (too_much, std::align_val_t{64}, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](too_much, std::align_val_t{64}, std::nothrow), nullptr);
  volatile std::size_t three = 3;
  EXPECT_THROW((void)operator new (10, std::align_val_t{three}), std::bad_alloc);
  EXPECT_EQ(operator new (10, std::align_val_t{three}, std::nothrow), nullptr);
  void* p = operator new(0);
  void* q = operator new(0);
  EXPECT_NE(p, q);
  operator delete(p);
  operator delete (q, std::size_t{0});
  operator delete(operator new(10, std::nothrow), std::nothrow);
  operator delete[](operator new[](10, std::nothrow), std::nothrow);
  operator delete(nullptr);
  operator delete[](nullptr, std::align_val_t{64});
}

int handler_calls = 0;

TEST(process_test, new_handler_is_called_until_it_gives_up) {
  handler_calls = 0;
  std::set_new_handler([] {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
  });
  EXPECT_THROW((void)operator new(too_much), std::bad_alloc);
  EXPECT_EQ(handler_calls, 3);
  handler_calls = 0;
  std::set_new_handler([] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  EXPECT_EQ(operator new(too_much, std::nothrow), nullptr);
  EXPECT_EQ(handler_calls, 1);
  std::set_new_handler(nullptr);
}

// --- threads -----------------------------------------------------------------

struct of_thread {
  std::vector<void*> objects;
  ~of_thread() {
    for (void* p : objects) free(p);
    objects.assign(100, nullptr);
    for (void*& p : objects) p = malloc(300);
    for (void* p : objects) free(p);
  }
};
thread_local of_thread mine;

pthread_key_t key;
std::atomic<int> rounds_of_destructors{0};

/// Comes back as long as the C library lets it, each time with new objects.
void destroy_value(void* p) {
  free(p);
  ++rounds_of_destructors;
  pthread_setspecific(key, malloc(700));
}

TEST(process_test, threads_that_end_allocate_and_free_to_the_last) {
  ASSERT_EQ(pthread_key_create(&key, destroy_value), 0);
  for (int round = 0; round < 100; ++round) {
    std::thread([] {
      pthread_setspecific(key, malloc(500));
      for (std::size_t i = 0; i < 200; ++i) mine.objects.push_back(malloc(i * 20));
    }).join();
  }
  pthread_key_delete(key);
  EXPECT_GE(rounds_of_destructors, 100);
}

// An object says at its start how long it is, and its last byte follows from that.
constexpr std::size_t least_marked = sizeof(std::uint16_t) + 1;
unsigned char end_mark(std::size_t n) { return static_cast<unsigned char>(n * 37 + 11); }
void mark_ends(unsigned char* p, std::size_t n) {
  const auto length = static_cast<std::uint16_t>(n);
  std::memcpy(p, &length, sizeof length);
  p[n - 1] = end_mark(n);
}
bool has_marked_ends(unsigned char* p) {
  std::uint16_t n = 0;
  std::memcpy(&n, p, sizeof n);
  return n >= least_marked && malloc_usable_size(p) >= n && p[n - 1] == end_mark(n);
}

TEST(process_test, objects_wander_between_threads) {
  constexpr std::size_t slots = 1000;
  std::vector<std::atomic<unsigned char*>> shared(slots);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      unsigned state = t + 1;
      for (int i = 0; i < 100000; ++i) {
        state = state * 1664525 + 1013904223;
        const std::size_t n = (state >> 8) % 600 + least_marked;
        auto* fresh = static_cast<unsigned char*>(malloc(n));
        mark_ends(fresh, n);
        unsigned char* old = shared[(state >> 4) % slots].exchange(fresh);
        if (old == nullptr) continue;
        if (!has_marked_ends(old)) ++wrong;
        free(old);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (auto& slot : shared) {
    if (slot != nullptr && !has_marked_ends(slot)) ++wrong;
    free(slot.load());
  }
  EXPECT_EQ(wrong, 0);
}

TEST(process_test, threads_come_and_go_with_live_objects) {
  std::vector<void*> left;
  for (int round = 0; round < 500; ++round) {
    std::thread([&] {
      for (std::size_t i = 0; i < 20; ++i) left.push_back(malloc(i * 100 + 1));
    }).join();
  }
  for (void* p : left) {
    ASSERT_NE(malloc_usable_size(p), 0u);
    free(p);
  }
}

// --- fork --------------------------------------------------------------------

TEST(process_test, children_allocate_whatever_threads_of_the_parent_did) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<void*> objects;
      for (std::size_t i = t; !stop; ++i) {
        objects.push_back(malloc(i * 37 % 3000));
        if (i % 16 == 0) free(malloc(100000));
        if (objects.size() < 300) continue;
        for (void* p : objects) free(p);
        objects.clear();
      }
      for (void* p : objects) free(p);
    });
  }
  for (int round = 0; round < 20; ++round) {
    const ended e = in_child([] {
      std::vector<std::string> texts;
      for (std::size_t i = 0; i < 2000; ++i) texts.emplace_back(i * 53 % 9000, 'x');
      std::thread([] { free(malloc(10)); }).join();
      return texts.size() == 2000 ? 0 : 1;
    });
    ASSERT_EQ(e.code, 0) << e.errors;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
}

TEST(process_test, handlers_of_fork_may_allocate) {
  static std::atomic<int> calls{0};
  ASSERT_EQ(pthread_atfork(
                [] {
                  free(malloc(100));
                  ++calls;
                },
                [] {
                  free(malloc(100));
                  ++calls;
                },
                [] { free(malloc(100)); }),
            0);
  EXPECT_EQ(in_child([] { return 7; }).code, 7);
  EXPECT_EQ(calls, 2);
}

// --- libraries ---------------------------------------------------------------

TEST(process_test, libraries_come_and_go) {
  for (int round = 0; round < 20; ++round) {
    void* library = dlopen(WARPHEAP_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    auto* text_of = reinterpret_cast<char* (*)(int)>(dlsym(library, "plugin_text"));
    ASSERT_NE(text_of, nullptr);
    char* text = text_of(30);
    std::thread([&] { free(text_of(5)); }).join();
    ASSERT_EQ(dlclose(library), 0);
    EXPECT_EQ(std::strlen(text), 300u);
    free(text);
    EXPECT_EQ(dlopen("no such library.so", RTLD_NOW), nullptr);
    EXPECT_NE(dlerror(), nullptr);
  }
}

// --- signals -----------------------------------------------------------------

std::atomic<int> signals{0};

TEST(process_test, signals_interrupt_nothing) {
  struct sigaction action {};
  action.sa_handler = [](int) { ++signals; };
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &often, nullptr);
  std::vector<void*> objects;
  for (std::size_t i = 0; signals < 300; ++i) {
    objects.push_back(malloc(i * 7 % 70000));
    ASSERT_NE(objects.back(), nullptr);
    if (objects.size() < 500) continue;
    for (void* p : objects) free(p);
    objects.clear();
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  for (void* p : objects) free(p);
  signal(SIGALRM, SIG_DFL);
}

TEST(process_test, malloc_in_a_signal_handler_is_told) {
  Dl_info ours{};
  ASSERT_NE(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &ours), 0);
  if (std::strstr(ours.dli_fname, "checked") == nullptr)
    GTEST_SKIP() << "only the checked library looks for it";
  const ended e = in_child([] {
    struct sigaction action {};
    action.sa_handler = [](int) { free(malloc(10)); };
    sigaction(SIGVTALRM, &action, nullptr);
    const itimerval often{{0, 100}, {0, 100}};
    setitimer(ITIMER_VIRTUAL, &often, nullptr);
    for (;;) free(malloc(100));
    return 0;
  });
  EXPECT_EQ(e.code, -SIGABRT);
  EXPECT_NE(e.errors.find("malloc deadlock"), std::string::npos) << e.errors;
}

}  // namespace
