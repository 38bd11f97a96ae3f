// What malloc's family does besides malloc and free: calloc, posix_memalign and realloc.
#include "bench/host/basic.hpp"

#include "bench/host/tools.hpp"

namespace warpheap::bench::host {
namespace {

std::size_t rounds_of(double n, std::size_t bytes, const setting& how) {
  return static_cast<std::size_t>(
      std::max(2.0, n / (1 + static_cast<double>(bytes) / 2048) * how.scale));
}

/// Sixteen objects, of which the one that was made first makes room for a new one.
template <class F>
measurement in_a_ring(std::size_t bytes, const setting& how, F&& make) {
  const std::size_t n = rounds_of(2e5, bytes, how);
  return medians(bytes, how, n, [&](unsigned) {
    object ring[16];
    for (std::size_t i = 0; i < n; ++i) {
      object& o = ring[i % 16];
      o.drop();
      make(o);
    }
    for (object& o : ring) o.drop();
  });
}

}  // namespace

std::vector<measurement> run_calloc(const setting& how) {
  std::vector<measurement> out;
  for (const std::size_t bytes : {48, 1000, 20'000}) {
    out.push_back(in_a_ring(bytes, how, [&](object& o) {
      auto* const p = static_cast<unsigned char*>(opaque(std::calloc(1, bytes)));
      if (p != nullptr && (p[0] | p[bytes - 1]) != 0) note_damage();
      o.take(p, bytes);
    }));
  }
  return out;
}

std::vector<measurement> run_aligned(const setting& how) {
  std::vector<measurement> out;
  for (const std::size_t bytes : {64, 100, 1000, 4096}) {
    out.push_back(in_a_ring(bytes, how, [&](object& o) {
      constexpr std::size_t alignment = 64;
      void* p = nullptr;
      if (posix_memalign(&p, alignment, bytes) != 0) p = nullptr;
      if (reinterpret_cast<std::uintptr_t>(opaque(p)) % alignment != 0) note_damage();
      o.take(p, bytes);
    }));
  }
  return out;
}

/// Two, so that one may be in the other's way.
std::vector<measurement> run_realloc(const setting& how) {
  constexpr std::size_t steps = 64, arrays = 2;
  std::vector<measurement> out;
  for (const std::size_t bytes : {1000, 30'000, 1'000'000, 4'000'000}) {
    const std::size_t rounds = rounds_of(4e3, bytes, how);
    out.push_back(medians(bytes, how, rounds * steps * arrays, [&](unsigned) {
      const auto mark = [](std::size_t at) { return static_cast<unsigned char>(at / 64 + 1); };
      for (std::size_t r = 0; r < rounds; ++r) {
        unsigned char* array[arrays] = {};
        bool has_memory = true;
        std::size_t length = 0;
        for (std::size_t s = 1; s <= steps && has_memory; ++s) {
          const std::size_t longer = bytes * s / steps;
          for (unsigned char*& a : array) {
            void* const p = opaque(std::realloc(a, longer));
            ++own_calls.mallocs;
            if (p == nullptr) {
              ++own_calls.nulls;
              has_memory = false;
              break;
            }
            a = static_cast<unsigned char*>(p);
            for (std::size_t at = (length + 63) / 64 * 64; at < longer; at += 64) a[at] = mark(at);
          }
          length = longer;
        }
        for (unsigned char* a : array) {
          for (std::size_t s = 0; s < steps && has_memory; ++s) {
            const std::size_t at = bytes * s / steps / 64 * 64;
            if (a[at] != mark(at)) note_damage();
          }
          std::free(a);
        }
      }
    }));
  }
  return out;
}

}  // namespace warpheap::bench::host
