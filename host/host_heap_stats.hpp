#pragma once

#include <array>
#include <cstdint>

#include <warpheap/size_classes.hpp>

#include "host/free_status.hpp"

namespace warpheap {

/// Figures of a host_heap. Each is exact when no other call is in flight; under load, each is some
/// value that it had during the call to stats.
struct host_heap_stats {
  struct class_stats {
    std::uint64_t mallocs = 0;  ///< objects ever allocated
    std::uint64_t frees = 0;    ///< objects ever freed
    std::uint64_t live = 0;     ///< objects that exist
  };
  std::uint64_t mallocs = 0;       ///< objects ever allocated, tiny and large ones included
  std::uint64_t frees = 0;         ///< objects ever freed, by free and by reset
  std::uint64_t live_objects = 0;  ///< mallocs - frees
  std::uint64_t live_bytes = 0;    ///< bytes of the slots, tiny blocks and pages they occupy
  std::uint64_t tiny_mallocs = 0;  ///< tiny objects ever allocated
  std::uint64_t tiny_frees = 0;    ///< tiny objects ever freed
  std::uint64_t tiny_blocks = 0;   ///< 16-byte blocks in use for tiny objects
  std::array<class_stats, num_classes> by_class{};  ///< [0]: large objects; tiny ones are in none
  std::uint64_t out_of_memory = 0;                  ///< allocations that failed for lack of pages
  std::uint64_t refused = 0;  ///< allocations refused: size overflow or bad alignment
  std::array<std::uint64_t, free_statuses> frees_by_status{};  ///< calls of free, by result
  std::uint64_t cache_refills = 0;    ///< spans that thread caches took from mcentral or mheap
  std::uint64_t cleared_bytes = 0;    ///< bytes that calloc had to clear, as they had been used
  std::uint64_t spans = 0;            ///< spans that have pages, except the unswept
  std::uint64_t pages_in_use = 0;     ///< pages of spans, except the unswept
  std::uint64_t unswept_spans = 0;    ///< spans in which a reset left no live object
  std::uint64_t unswept_pages = 0;    ///< their pages
  std::uint64_t device_pages = 0;     ///< pages lent to the device
  std::uint64_t other_pages = 0;      ///< pages of stacks and regions, live or in quarantine
  std::uint64_t free_pages = 0;       ///< pages taken into use before that are free now, or unswept
  std::uint64_t peak_pages = 0;       ///< most pages ever in use or lent, together
  std::uint64_t heap_sys_bytes = 0;   ///< bytes of the reservation taken into use so far
  std::uint64_t released_bytes = 0;   ///< of these, bytes of free pages that hold no memory
  std::uint64_t reserved_bytes = 0;   ///< bytes of the reservation
  std::uint64_t span_sys_bytes = 0;   ///< bytes for span records
  std::uint64_t cache_sys_bytes = 0;  ///< bytes for thread caches
  std::uint64_t tiny_sys_bytes = 0;   ///< bytes for the masks of tiny blocks
  std::uint64_t metadata_sys_bytes = 0;  ///< bytes from the system for all records, except tables
  std::uint64_t thread_caches = 0;  ///< caches of threads that used the heap since the last reset
};

}  // namespace warpheap
