// Counts the memory operations of the device core, call by call.
//
// A block of one warp runs on one thread of the executor from its first lane to its last, so the
// record of a thread is that of the warp which it runs. Plain loads of the heap's record are not
// counted: on a GPU they are kernel parameters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>

#include <warpheap/simt_words.hpp>

namespace warpheap::bench::model {

enum class kind { load, store, atomic };

/// What the lanes of a warp did in one call that they made together.
struct call_record {
  bool counting = false;
  std::uint64_t loads = 0;
  std::uint64_t stores = 0;
  std::uint64_t atomics = 0;
  std::uint64_t compare_exchanges = 0;          // of these
  std::array<std::uint32_t, 32> chain_loads{};  // of each lane
  std::array<std::uint32_t, 32> chain_atomics{};
  std::set<std::uintptr_t> sectors;  // of 32 bytes, the unit of the L2 cache
};

inline thread_local call_record of_this_warp;

inline constexpr std::size_t sector_bytes = 32;

inline void note(kind what, const void* p) {
  call_record& now = of_this_warp;
  if (!now.counting) return;
  const unsigned lane = simt::detail::this_lane().index;
  switch (what) {
    case kind::load:
      ++now.loads;
      ++now.chain_loads[lane];
      break;
    case kind::store: ++now.stores; break;
    case kind::atomic:
      ++now.atomics;
      ++now.chain_atomics[lane];
      break;
  }
  now.sectors.insert(reinterpret_cast<std::uintptr_t>(p) / sector_bytes);
}

}  // namespace warpheap::bench::model
