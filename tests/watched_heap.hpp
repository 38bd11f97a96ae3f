// What the tests of debug modes share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>
#include <warpheap/heap.hpp>

namespace warpheap::testing {

/// A heap and what it said.
struct watched_heap {
  explicit watched_heap(heap_options o) {
    o.reserve_bytes = 256_MiB;
    o.backend = backend_kind::simt;
    o.refill_service = false;
    o.on_report = [this](const std::string& line) { lines.push_back(line); };
    h = std::make_unique<heap>(o);
  }
  std::uint64_t count(error_kind kind) { return h->stats().errors[static_cast<unsigned>(kind)]; }
  std::vector<std::string> lines;
  std::unique_ptr<heap> h;
};

inline char* chars(void* p) { return static_cast<char*>(p); }

}  // namespace warpheap::testing
