// operator new of the preloaded library when it fails, beside the C++ runtimes of programs: shared,
// of a plugin alone, and none.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <utility>

#include "tests/malloc/process.hpp"

namespace {

using warpheap::test::ended;
using warpheap::test::in_child;
using warpheap::test::run_disabled_test;

volatile std::size_t too_much = SIZE_MAX / 4;
volatile std::size_t no_alignment = 3;

/// What std::uncaught_exceptions says while f() throws std::bad_alloc; -1 when it does not.
int uncaught_during(const std::function<void*()>& f) {
  int during = -1;
  struct probe {
    int& during;
    ~probe() { during = std::uncaught_exceptions(); }
  };
  try {
    const probe p{during};
    void* volatile kept = f();  // a compiler may leave an allocation out that nobody uses
    (void)kept;
  } catch (const std::bad_alloc&) {
    return during;
  }
  return -1;
}

void expect_counted() {
  EXPECT_EQ(uncaught_during([] { return operator new(too_much); }), 1);
  EXPECT_EQ(uncaught_during([] { return operator new[](too_much); }), 1);
  EXPECT_EQ(uncaught_during([] { return operator new (too_much, std::align_val_t{64}); }), 1);
  EXPECT_EQ(uncaught_during([] { return operator new (10, std::align_val_t{no_alignment}); }), 1);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
}

TEST(cxx_runtime_test, exceptions_are_counted_by_the_programs_runtime) { expect_counted(); }

int handler_calls = 0;

TEST(cxx_runtime_test, nothrow_new_catches_what_a_handler_throws) {
  handler_calls = 0;
  std::set_new_handler([] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  EXPECT_EQ(operator new(too_much, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](too_much, std::nothrow), nullptr);
  EXPECT_EQ(operator new (too_much, std::align_val_t{64}, std::nothrow), nullptr);
  EXPECT_EQ(operator new[](too_much, std::align_val_t{64}, std::nothrow), nullptr);
  EXPECT_EQ(handler_calls, 4);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
  expect_counted();
  EXPECT_EQ(handler_calls, 7);
  std::set_new_handler(nullptr);
}

/// A handler that makes room: the call that failed succeeds.
void* reserve = nullptr;
TEST(cxx_runtime_test, DISABLED_handler_helps) {
  const std::size_t most = std::size_t{60} << 20;
  for (const bool quiet : {false, true}) {
    reserve = operator new(most);
    handler_calls = 0;
    std::set_new_handler([] {
      ++handler_calls;
      operator delete(std::exchange(reserve, nullptr));
    });
    void* p = quiet ? operator new(most, std::nothrow) : operator new(most);
    EXPECT_NE(p, nullptr);
    EXPECT_EQ(handler_calls, 1);
    operator delete(p);
    std::set_new_handler(nullptr);
  }
}

/// Memory for nothing, so not for finding the runtime either.
TEST(cxx_runtime_test, DISABLED_exhausted) {
  void* last = nullptr;
  for (std::size_t n = std::size_t{1} << 20; n >= 8; n -= n > 4096 ? n / 8 : 8) {
    for (void* p; (p = std::malloc(n)) != nullptr;) last = p;
  }
  ASSERT_NE(last, nullptr);
  const auto try_new = [] { return operator new (std::size_t{1} << 20); };
  int during = -2;
  for (int i = 0; i < 10; ++i) during = uncaught_during(std::cref(try_new));
  void* const quiet = operator new (std::size_t{1} << 20, std::nothrow);
  // The test's own output needs some.
  std::free(last);
  _exit(during == 1 && quiet == nullptr && std::uncaught_exceptions() == 0 ? 0 : 1);
}

TEST(cxx_runtime_test, under_a_limit) {
  for (const char* name : {"handler_helps", "exhausted"}) {
    const ended e = run_disabled_test(name, [] { setenv("WARPHEAP", "memory_limit=96M", 1); });
    EXPECT_EQ(e.code, 0) << name << ": " << e.errors;
  }
}

ended in_c(const char* task) {
  return in_child([=] {
    execl(WARPHEAP_TEST_C_PROGRAM, "c_program", task, WARPHEAP_TEST_PLUGIN,
          static_cast<char*>(nullptr));
    return 99;
  });
}

TEST(cxx_runtime_test, programs_in_c_load_none) {
  if (!WARPHEAP_HAS_STATIC_RUNTIME) GTEST_SKIP() << "the toolchain has no static C++ runtime";
  const ended e = in_c("alone");
  EXPECT_EQ(e.code, 0) << e.errors;
}

TEST(cxx_runtime_test, new_without_a_runtime_ends_the_program) {
  const ended e = in_c("throw");
  EXPECT_EQ(e.code, -SIGABRT) << e.errors;
  EXPECT_NE(e.errors.find("no C++ runtime that throws std::bad_alloc"), std::string::npos)
      << e.errors;
}

TEST(cxx_runtime_test, plugins_of_programs_in_c_catch_what_new_throws) {
  const ended e = in_c("plugin");
  EXPECT_EQ(e.code, 0) << e.errors;
}

}  // namespace
