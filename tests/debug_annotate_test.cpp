// Annotations: the address and thread sanitizers and Valgrind know the objects of a heap.
#include <gtest/gtest.h>
#include <unistd.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "tests/temporary_files.hpp"
#include "tests/test_scale.hpp"
#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::chars;
using warpheap::testing::temporary_file;
using warpheap::testing::watched_heap;

TEST(debug_modes_death_test, annotations_reach_the_address_sanitizer) {
#ifdef __SANITIZE_ADDRESS__
  heap_options o;
  o.annotate = true;
  watched_heap w(o);
  volatile char* p = chars(w.h->malloc(21));
  EXPECT_DEATH(p[21] = 1, "use-after-poison|heap-buffer-overflow");
  w.h->free(const_cast<char*>(p));
  EXPECT_DEATH(p[0] = 1, "use-after-poison|heap-use-after-free");
  // Memory that goes back to the heap and to kernels is open again.
  w.h->reset();
  p[0] = 1;
#else
  GTEST_SKIP() << "not built with AddressSanitizer";
#endif
}

TEST(debug_modes_death_test, annotations_reach_the_thread_sanitizer) {
#ifdef __SANITIZE_THREAD__
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        heap_options o;
        o.annotate = true;
        watched_heap w(o);
        char* p = chars(w.h->malloc(21));
        std::thread user([&] { static_cast<volatile char*>(p)[3] = 1; });
        w.h->free(p);
        user.join();
        std::exit(0);  // by which the tool ends the process as failed
      },
      "data race");
#else
  GTEST_SKIP() << "not built with ThreadSanitizer";
#endif
}

TEST(debug_modes_test, DISABLED_for_valgrind) {
  heap_options o;
  o.annotate = true;
  watched_heap w(o);
  volatile char* p = chars(w.h->malloc(21));
  p[20] = 1;
  if (getenv("WARPHEAP_TEST_DAMAGE") == nullptr) return w.h->free(const_cast<char*>(p));
  p[21] = 1;
  w.h->free(const_cast<char*>(p));
  p[5] = 1;
}

TEST(debug_modes_test, annotations_reach_valgrind) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "no Valgrind over a sanitizer";
  if (std::system("command -v valgrind >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "valgrind is not installed";
#if !__has_include(<valgrind/memcheck.h>)
  GTEST_SKIP() << "built without Valgrind's header";
#endif
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const auto said = [&](const std::string& environment) {
    // heap_faults_test.cpp replaces new and delete; Valgrind stands in for some of these only.
    const std::string log = temporary_file("valgrind");
    const int status = std::system(
        (environment + " valgrind -q --show-mismatched-frees=no --error-exitcode=9 --log-file="
         + log + " " + program
         + " --gtest_also_run_disabled_tests"
           " --gtest_filter='*DISABLED_for_valgrind' >/dev/null 2>&1")
            .c_str());
    std::ifstream file(log);
    std::string text(std::istreambuf_iterator<char>(file), {});
    unlink(log.c_str());
    return (status == 0 ? "sound" : "damage") + text;
  };
  EXPECT_EQ(said(""), "sound");
  const std::string text = said("WARPHEAP_TEST_DAMAGE=1");
  EXPECT_NE(text.find("0 bytes after a block of size 21 alloc'd"), std::string::npos) << text;
  EXPECT_NE(text.find("5 bytes inside a block of size 21 free'd"), std::string::npos) << text;
}

}  // namespace
