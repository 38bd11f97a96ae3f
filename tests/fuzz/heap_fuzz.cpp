// Any sequence of bytes as a program of calls on a heap, checked against a model. For libFuzzer
// (tests/fuzz/run) and, on the corpus, for plain builds (fuzz_corpus_test.cpp).
//
// The first byte switches debug modes on. Then each call: a byte for what it is, one for the object
// that it is about, two for its size.
#include "tests/fuzz/heap_fuzz.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <warpheap/heap.hpp>
#include <warpheap/region.hpp>

#include "tests/host_only.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::host_only;

#define REQUIRE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (0)

class input {
 public:
  input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  unsigned byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  /// Mostly small, at times up to 4 MiB.
  std::size_t size() {
    const unsigned low = byte();
    const unsigned high = byte();
    switch (high >> 5) {
      case 7: return (std::size_t{high & 31} << 8 | low) << 9;
      case 6: return (std::size_t{high & 31} << 8 | low) << 3;
      case 5: return low + 32700;  // around the largest class
      case 4:
      case 3: return std::size_t{high & 31} << 8 | low;
      default: return low;
    }
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

struct object {
  unsigned char* p = nullptr;
  std::size_t bytes = 0;
  unsigned char seed = 0;
};

class program {
 public:
  program(const std::uint8_t* data, std::size_t size) : in_(data, size) {
    const unsigned modes = in_.byte();
    heap_options o = host_only(64_MiB);
    o.on_report = [this](const std::string&) { ++reports_; };
    o.red_zones = (modes & 1) != 0;
    o.quarantine_bytes = (modes & 2) != 0 ? 10000 : 0;
    o.clobber_free = (modes & 4) != 0;
    o.annotate = (modes & 8) != 0;
    o.efence = (modes & 16) != 0;
    o.sbrk = (modes & 32) != 0;
    o.profile_rate = (modes & 64) != 0 ? 1000 : 0;
    keeps_freed_ = (modes & 63) != 0;
    surrounded_ = (modes & 127) != 0;
    never_frees_ = o.sbrk;
    heap_.emplace(o);
  }

  void run() {
    for (int calls = 0; !in_.empty() && calls < 5000; ++calls) call();
    for (object& o : objects_) drop(o);
    const heap_stats s = heap_->stats();
    if (!keeps_freed_) {
      REQUIRE(s.host.live_objects == 0);
      REQUIRE(s.host_mallocs == s.host_frees);
    }
    heap_.reset();
  }

 private:
  heap& h() { return *heap_; }

  void fill(object& o) {
    o.seed = static_cast<unsigned char>(++seeds_);
    for (std::size_t i = 0; i < o.bytes; i += step(o)) o.p[i] = at(o, i);
    if (o.bytes != 0) o.p[o.bytes - 1] = at(o, o.bytes - 1);
  }
  static std::size_t step(const object& o) { return o.bytes <= 4096 ? 1 : 509; }
  static unsigned char at(const object& o, std::size_t i) {
    return static_cast<unsigned char>(o.seed + i * 7);
  }
  void check(const object& o, std::size_t n) {
    for (std::size_t i = 0; i < n; i += step(o)) REQUIRE(o.p[i] == at(o, i));
  }

  void adopt(object& o, void* p, std::size_t n, std::size_t align) {
    if (p == nullptr) {
      o = {};
      return;
    }
    REQUIRE(reinterpret_cast<std::uintptr_t>(p) % align == 0);
    o = {static_cast<unsigned char*>(p), n, 0};
    REQUIRE(n == 0 || align > 1 || h().usable_size(p) >= n);
    for (const object& other : objects_) {
      if (&other == &o || other.p == nullptr || other.bytes == 0 || n == 0) continue;
      REQUIRE(o.p + n <= other.p || other.p + other.bytes <= o.p);
    }
    fill(o);
  }

  void drop(object& o) {
    if (o.p == nullptr) return;
    check(o, o.bytes);
    const int before = reports_;
    h().free(o.p);
    REQUIRE(reports_ == before);
    o = {};
  }

  /// f() has to be noticed: reported, and counted whether or not the line was shown.
  template <class F>
  void wrong(F&& f) {
    const std::uint64_t before = wrong_count();
    f();
    REQUIRE(wrong_count() == before + 1);
  }
  std::uint64_t wrong_count() {
    const heap_stats s = h().stats();
    std::uint64_t n = 0;
    for (unsigned kind = 0; kind < error_kinds; ++kind) {
      if (static_cast<error_kind>(kind) != error_kind::out_of_memory) n += s.errors[kind];
    }
    return n;
  }

  void call() {
    const unsigned what = in_.byte() % 16;
    object& o = objects_[in_.byte() % objects_.size()];
    const std::size_t n = in_.size();
    switch (what) {
      case 0:
      case 1:
      case 2: drop(o); return adopt(o, h().malloc(n), n, 1);
      case 3: {
        drop(o);
        const std::size_t size = n % 37 + 1;
        auto* p = static_cast<unsigned char*>(h().calloc(n / size, size));
        const std::size_t bytes = n / size * size;
        REQUIRE(p == nullptr || std::all_of(p, p + bytes, [](unsigned char c) { return c == 0; }));
        return adopt(o, p, bytes, 1);
      }
      case 4: {
        drop(o);
        const std::size_t align = n % 5 == 0 ? n % 100 : std::size_t{1} << n % 18;
        void* p = h().aligned_alloc(align, n);
        if ((align & (align - 1)) != 0 || align == 0) {
          REQUIRE(p == nullptr);
          return;
        }
        return adopt(o, p, n, align);
      }
      case 5:
      case 6: {
        const object old = o;
        auto* p = static_cast<unsigned char*>(h().realloc(o.p, n));
        if (p == nullptr) {
          if (old.p != nullptr) check(old, old.bytes);
          return;
        }
        object moved{p, std::min(n, old.bytes), old.seed};
        if (n != 0 && old.bytes != 0) {
          // The pattern was made for the old length; its grid may be wider than the new one's.
          for (std::size_t i = 0; i < moved.bytes; i += step(old)) REQUIRE(p[i] == at(old, i));
        }
        o = {};
        return adopt(o, p, n, 1);
      }
      case 7:
      case 8:
      case 9: return drop(o);
      case 10: {
        // A second free, at once.
        if (o.p == nullptr || o.bytes == 0 || never_frees_) return;
        unsigned char* const p = o.p;
        drop(o);
        return wrong([&] { h().free(p); });
      }
      case 11: {
        if (o.p == nullptr || o.bytes < 2) return;
        const std::size_t inside = 1 + n % (o.bytes - 1);
        wrong([&] { h().free(o.p + inside); });
        REQUIRE(h().usable_size(o.p + inside) == 0);
        return check(o, o.bytes);
      }
      case 12: {
        int local = 0;
        REQUIRE(h().usable_size(&local) == 0);
        wrong([&] { h().free(&local); });
        wrong([&] { REQUIRE(h().realloc(&local, n + 1) == nullptr); });
        return h().free(nullptr);
      }
      case 13: {
        REQUIRE(h().malloc(SIZE_MAX - n) == nullptr);
        REQUIRE(h().malloc(64_MiB + n) == nullptr);
        REQUIRE(h().calloc(SIZE_MAX / (n + 2), n + 3) == nullptr);
        REQUIRE(h().aligned_alloc(std::size_t{1} << 63, n) == nullptr);
        return;
      }
      case 14: {
        (void)h().trim();
        const heap_stats s = h().stats();
        REQUIRE(s.host_mallocs - s.host_frees == s.host.live_objects);
        REQUIRE(s.host.live_bytes <= s.host.span_bytes);
        REQUIRE(s.bytes_in_use <= s.page_bytes && s.page_bytes <= s.peak_bytes);
        std::uint64_t live = 0;
        for (const object& other : objects_) live += other.p != nullptr && other.bytes != 0;
        // Objects of size 0 with an alignment may be objects.
        REQUIRE(keeps_freed_ || s.host.live_objects >= live);
        return;
      }
      default: return rare_call(n % 64, n / 64, o);
    }
  }

  void rare_call(std::size_t what, std::size_t n, object& o) {
    switch (what) {
      case 0: {
        check_all();
        h().reset();
        objects_.fill({});
        if (!keeps_freed_) REQUIRE(h().stats().host.live_objects == 0);
        return;
      }
      case 1: return sweep(n);
      case 2: return h().set_memory_limit(n % 4 == 0 ? 0 : (n % 64 + 1) * 1_MiB);
      case 3: return std::thread([&] { drop(o); }).join();
      case 4: {
        const std::size_t align = std::size_t{1} << n % 16;
        void* const stack = h().acquire_stack(n * 8, align);
        if (stack == nullptr) return;
        REQUIRE(reinterpret_cast<std::uintptr_t>(stack) % align == 0);
        std::memset(stack, 0x5a, n * 8);
        REQUIRE(h().usable_size(stack) == 0);
        return h().release_stack(stack, n * 8, align);
      }
      case 5: {
        region in(h());
        for (unsigned i = 0; i < 20; ++i) {
          const std::size_t bytes = n * 8 * i % 5000;
          if (void* p = in.malloc(bytes); p != nullptr) std::memset(p, 0xa5, bytes);
        }
        return check_all();
      }
      default: return;
    }
  }
  void check_all() {
    for (const object& o : objects_)
      if (o.p != nullptr) check(o, o.bytes);
  }
  /// Marks the objects whose bit is set, and finds them alone alive after a sweep.
  void sweep(std::size_t marked) {
    if (surrounded_) return;
    std::uint64_t kept = 0, all = 0;
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      object& o = objects_[i];
      if (o.p == nullptr) continue;
      // Of size 0, it is one for all or an object of some bytes.
      if (o.bytes == 0) {
        drop(o);
        continue;
      }
      ++all;
      if ((marked >> i % 12 & 1) == 0) continue;
      REQUIRE(h().mark(o.p) == mark_status::marked);
      REQUIRE(h().mark(o.p) == mark_status::again);
      ++kept;
    }
    const sweep_report report = h().sweep(10);
    REQUIRE(report.complete && report.dangling == 0);
    REQUIRE(report.kept.objects == kept && report.leaked.objects == all - kept);
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      object& o = objects_[i];
      if (o.p == nullptr) continue;
      if ((marked >> i % 12 & 1) == 0) {
        REQUIRE(h().usable_size(o.p) == 0);
        o = {};
      } else {
        check(o, o.bytes);
      }
    }
  }

  input in_;
  std::optional<heap> heap_;
  std::array<object, 48> objects_{};
  unsigned seeds_ = 0;
  int reports_ = 0;
  bool keeps_freed_ = false;
  bool surrounded_ = false;
  bool never_frees_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size != 0) program(data, size).run();
  return 0;
}
