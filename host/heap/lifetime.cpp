// Construction of a heap from its options, and destruction, with what it writes and reports then.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#include "host/heap/impl.hpp"

namespace warpheap {

namespace {

heap_options checked(heap_options options) {
  options = options.with_environment();
  if (!options.profile_file.empty() && options.profile_rate == 0)
    options.profile_rate = default_profile_rate;
  constexpr std::size_t default_device_events = std::size_t{1} << 20;
  if (options.device_events == 0 && (!options.trace_file.empty() || options.profile_rate != 0))
    options.device_events = default_device_events;
  options.validate();
  return options;
}

layer_options layers_of(const heap_options& o) {
  return {o.profile_rate, o.trace_file.c_str(), o.annotate, o.quarantine_bytes,
          o.red_zones,    o.clobber_free,       o.efence,   o.sbrk};
}

/// Whether there is address space for a heap of reserve_bytes, its tables, the program's own use,
/// and the stacks of the executor's lanes and threads.
bool room_beside(std::size_t reserve_bytes) {
  constexpr std::size_t worker_bytes = std::size_t{80} << 20;
  std::size_t bytes = reserve_bytes + reserve_bytes / 4;
  if (have_kernels) bytes += worker_bytes * std::max(2u, std::thread::hardware_concurrency());
  void* const all = sys_reserve(bytes);
  sys_release(all, bytes);
  return all != nullptr;
}

}  // namespace

/// The requested heap or, if there is no room for it, one of a half, a quarter, ... of its size.
/// (Go: mallocinit's smaller and smaller reservations.)
std::unique_ptr<heap::impl> heap::impl::make(heap_options asked) {
  heap_options o = checked(std::move(asked));
  const std::size_t wanted = o.reserve_bytes;
  std::size_t least = o.least_reserve_bytes;
  if (least == 0 && wanted != heap_options::default_reserve_bytes) least = wanted;
  least = std::max(least, min_reserve_bytes);
  const auto smaller = [&] {
    if (o.reserve_bytes == least) return false;
    o.reserve_bytes = std::max(o.reserve_bytes / 2 / chunk_bytes * chunk_bytes, least);
    return true;
  };
  for (;;) {
    // A smaller heap must leave room for what is used beside it.
    while (o.reserve_bytes != wanted && o.reserve_bytes != least && !room_beside(o.reserve_bytes))
      (void)smaller();
    try {
      auto made = std::make_unique<impl>(o);
      if (o.reserve_bytes == wanted) return made;
      made->errors.say("warpheap: there is no room for a heap of " + format_bytes(wanted)
                       + ": it has " + format_bytes(o.reserve_bytes)
                       + " (heap_options::least_reserve_bytes)");
      return made;
    } catch (const no_room&) {
      if (!smaller()) throw;
    } catch (const std::bad_alloc&) {
      if (!smaller())
        throw no_room("no memory for the host's tables of a heap of "
                      + format_bytes(o.reserve_bytes));
    } catch (const std::system_error& error) {
      if (!smaller())
        throw no_room(std::string("no memory for the thread that serves the heap: ")
                      + error.what());
    }
  }
}

heap::impl::impl(const heap_options& o)
    : options(o),
      chosen(choose_backend(options.backend)),
      arrays(*chosen.memory, options, have_kernels),
      objects(arrays.view().base, arrays.view().bytes, source_of(*chosen.memory)),
      operations(make_operations(chosen.memory->kind(), arrays.view())) {
  if (options.memory_limit != 0) objects.set_memory_limit(options.memory_limit);
  make_layers();
  if (top == nullptr) direct = objects.id();
  if (operations == nullptr) {
    join_forks();
    return;
  }
  if (const auto pages = static_cast<std::uint32_t>(arrays.stock_pages(options)); pages != 0)
    if (const page_run run = objects.take_device_pages(1, pages); run.count != 0)
      operations->give_stock(run);
  advise_arenas();

  std::function<void()> idle_work;
  // The executor's device data is in this process's memory; a GPU's is out of reach while
  // kernels run, and the frees wait for the next synchronize().
  if (chosen.memory->kind() == backend_kind::simt)
    idle_work = [this] {
      // Never waits for a bulk operation, which holds the lock and collects itself.
      held_reports held;
      try {
        if (const std::unique_lock lock(device_mutex, std::try_to_lock); lock)
          held = collect_host_frees(/*at_rest=*/false);
      } catch (const std::exception&) {
        // No memory to collect them: they wait for the next call.
      }
      report(held);
    };
  const auto longest_sleep = std::min<std::chrono::microseconds>(
      std::chrono::microseconds(arrays.view().refill_timeout_ns / 20'000),
      std::chrono::milliseconds(1));
  service = std::make_unique<refill_service>(*arrays.view().queue, objects, std::move(idle_work),
                                             longest_sleep);
  if (options.scavenge && chosen.memory->can_discard())
    service->each_interval([this] { objects.scavenge_step(); });
  // On a GPU a large request is answered in time only if it causes no page faults.
  if (is_cuda()) service->prepare_ahead();
  if (options.refill_service) service->start();
  if (is_cuda()) [[maybe_unused]]
    static const int once = std::atexit(before_cuda_ends);
  join_forks();  // the last step that can fail
}

/// Kernels' objects and the heap's pages are out of reach.
void heap::impl::end_without_cuda() {
  (void)operations.release();  // all that it owns is CUDA's
  try {
    if (!options.profile_file.empty()) write_profile();
  } catch (const std::exception& error) {
    errors.say(std::string("warpheap: no profile was written: ") + error.what());
  }
}

heap::impl::~impl() {
  leave_forks();
  if (is_cuda() && why_cuda_is_gone() != nullptr) {
    end_without_cuda();
    return;
  }
  try {
    if (operations != nullptr) operations->synchronize();
  } catch (const std::exception& error) {
    errors.say(std::string("warpheap: a kernel had failed when the heap was destroyed: ")
               + error.what());
  }
  if (service != nullptr) service->stop();
  try {
    if (layers) synchronize();  // the layers need kernels' events
    if (!options.print_state_file.empty()) write_state();
    if (!options.profile_file.empty()) write_profile();
    if (top != nullptr) top->drain();
    if (options.report_leaks && !options.sbrk) report_leaks();
  } catch (const std::exception& error) {
    errors.say(std::string("warpheap: leaks were not counted: ") + error.what());
  }
}

void heap::impl::make_layers() {
  const layer_options wanted = layers_of(options);
  if (!wanted.any()) return;
  if (wanted.efence && chosen.memory->kind() != backend_kind::simt)
    throw heap_error("efence needs the CPU backend: it changes the protection of the heap's pages");
  const layer_reports reports{this, [](void* self, error_kind kind, const void* p) {
                                static_cast<impl*>(self)->note_of_layer(kind, p);
                              }};
  layers.emplace(objects, wanted, reports);
  if (!layers->trace_opened())
    throw heap_error("the file for the trace cannot be written: " + options.trace_file);
  top = &layers->top();
}

void heap::impl::write_profile() {
  std::ofstream file(options.profile_file, std::ios::binary);
  file << (options.profile_file.ends_with(".folded") ? profile().folded() : profile().pprof());
  file.close();
  if (!file) errors.say("warpheap: the profile could not be written to " + options.profile_file);
}

heap_profile heap::impl::profile() {
  profile_layer* const sampler = layers ? layers->profile() : nullptr;
  return sampler == nullptr ? heap_profile{} : sampler->snapshot();
}

void heap::impl::report_leaks() {
  synchronize();
  const heap_stats s = count();
  const std::uint64_t objects_left = s.device.live_objects + s.host.live_objects;
  if (objects_left == 0) return;
  errors.say("warpheap: heap destroyed with " + std::to_string(objects_left) + " live objects ("
             + format_bytes(s.bytes_in_use) + "): " + std::to_string(s.device.live_objects)
             + " of kernels, " + std::to_string(s.host.live_objects) + " of the host");
}

}  // namespace warpheap
