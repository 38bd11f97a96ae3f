#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>
#include <warpheap/backend.hpp>
#include <warpheap/heap.hpp>

#include "host/device_memory.hpp"
#include "host/heap/choose_backend.hpp"
#include "host/heap/error_log.hpp"
#include "host/host_heap.hpp"
#include "host/layers/chain.hpp"
#include "host/refill_service.hpp"

namespace warpheap {

/// Errors found while holding a lock that on_report must not find held: reported after its release.
using held_reports = std::vector<std::pair<error_kind, const void*>>;

/// The parts of a heap: the memory of its backend, the allocator of host objects and the layers
/// around it, the operations on the device's allocator, and the service that gives the device
/// pages.
struct heap::impl {
  // lifetime.cpp
  static std::unique_ptr<impl> make(heap_options asked);
  explicit impl(const heap_options& o);
  ~impl();
  void end_without_cuda();
  void make_layers();
  void write_profile();
  void report_leaks();
  heap_profile profile();

  // fork.cpp
  struct fork_list;
  void join_forks();
  void leave_forks() noexcept;
  static void before_fork();
  static void after_fork(bool in_child);
  void lose_memory();
  bool memory_is_lost() const { return top == &lost; }
  bool is_cuda() const { return chosen.memory->kind() == backend_kind::cuda; }
  static void before_cuda_ends();

  // heap.cpp. Where fast paths end in a call, it is not inlined: that would make them save
  // registers.
  [[gnu::noinline]] void* malloc(std::size_t size, contents kind) noexcept;
  void* or_out_of_memory(void* p, std::size_t bytes) noexcept {
    if (p == nullptr) [[unlikely]]
      note_out_of_memory(bytes);
    return p;
  }
  void note_out_of_memory(std::size_t bytes) noexcept;
  std::size_t usable_size(const void* p) {
    return top == nullptr ? objects.usable_size(p) : top->usable_size(p);
  }

  // frees.cpp
  [[gnu::noinline]] void free(void* p) noexcept;
  free_status free_host_object(void* p) { return top == nullptr ? objects.free(p) : top->free(p); }
  void after_free(void* p, free_status status);
  /// Pages of the host have become free: kernels that were denied pages may ask again.
  void after_pages() {
    if (service != nullptr) service->pages_came_free();
  }
  void free_device_object(void* p);
  bool start_device_frees();
  held_reports collect_host_frees(bool at_rest);
  void report(const held_reports& held);
  void note_of_layer(error_kind kind, const void* p) noexcept;

  // bulk.cpp
  void refuse_on_service_thread(const char* call) const;
  void synchronize();
  void surface_errors();
  std::unique_lock<std::mutex> settle_requests();
  std::size_t trim();
  void reset();
  void reset_objects();
  void refuse_layers() const;
  mark_status mark(const void* p);
  mark_status mark_reachable(const void* p);
  sweep_report sweep(std::size_t listed);
  void begin_device_marks();
  sweep_report sweep_device(std::size_t listed);
  mark_status mark_device_object(const void* p);

  // stats.cpp
  heap_stats count();
  void add_device(heap_stats& s);

  // memory.cpp
  memory_stats memory() const;
  void advise_arenas();

  // observe.cpp
  device_events take_events();
  void log_events();

  // state_text.cpp
  std::string state_text();
  void write_state();

  const heap_options options;
  error_log errors{options};
  const chosen_backend chosen;
  device_memory arrays;
  host_heap objects;
  std::optional<layer_chain> layers;
  lost_layer lost{objects};
  object_layer* top = nullptr;  ///< null: calls go to `objects`
  /// The number passed to the fast calls of `objects`: its own, or one that makes them fail over to
  /// the layers.
  std::uint64_t direct = host_heap::no_id;

  std::mutex events_mutex;  ///< held from taking events to logging them; before device_mutex
  std::mutex device_mutex;  ///< guards `operations`
  /// This process is a child of the one that made the heap: it has no threads that run kernels.
  bool is_of_parent = false;
  std::unique_ptr<device_operations> operations;
  std::unique_ptr<refill_service> service;

  std::mutex frees_mutex;
  std::vector<void*> device_frees;   ///< kernels' objects that the host has freed
  std::vector<void*> frees_in_hand;  ///< those to be started next; guarded by device_mutex

  std::mutex marks_mutex;
  std::vector<const void*> device_marks;  ///< kernels' objects that the host has marked
  bool lost_device_marks = false;         ///< some could not be recorded for lack of memory
};

}  // namespace warpheap
