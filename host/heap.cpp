#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <mutex>
#include <optional>
#include <utility>
#include <warpheap/backend.hpp>
#include <warpheap/heap.hpp>

#include "host/device_memory.hpp"
#include "host/host_heap.hpp"
#include "host/layers/chain.hpp"
#include "host/refill_service.hpp"

namespace warpheap {

namespace {

#if defined(WARPHEAP_HAS_SIMT) || defined(WARPHEAP_HAS_CUDA)
constexpr bool have_kernels = true;
#else
constexpr bool have_kernels = false;
#endif

struct chosen_backend {
  std::unique_ptr<memory_backend> memory;
  std::string reason;
};

chosen_backend choose_backend(backend_kind asked) {
  if (asked == backend_kind::cuda) return {make_cuda_memory(), "it was asked for"};
  if (asked == backend_kind::simt) return {make_mmap_memory(), "it was asked for"};
  std::string reason = why_no_cuda();
  if (reason.empty()) return {make_cuda_memory(), "a CUDA device can be used"};
  return {make_mmap_memory(), std::move(reason)};
}

std::unique_ptr<device_operations> make_operations(backend_kind kind, const heap_view& view) {
#ifdef WARPHEAP_HAS_CUDA
  if (kind == backend_kind::cuda) return make_cuda_operations(view);
#endif
#ifdef WARPHEAP_HAS_SIMT
  if (kind == backend_kind::simt) return make_simt_operations(view);
#endif
  (void)kind, (void)view;
  return nullptr;
}

page_source source_of(memory_backend& memory) {
  page_source source;
  source.context = &memory;
  if (memory.can_discard()) {
    source.decommit = [](void* context, std::byte* start, std::size_t bytes) {
      return static_cast<memory_backend*>(context)->discard(start, bytes);
    };
    source.fault = [](void* context, std::byte* start, std::size_t bytes) {
      auto& m = *static_cast<memory_backend*>(context);
      return m.discard(start, bytes) && m.forbid(start, bytes, true);
    };
    source.unfault = [](void* context, std::byte* start, std::size_t bytes) {
      return static_cast<memory_backend*>(context)->forbid(start, bytes, false);
    };
  }
  source.needzero_after_decommit = memory.dirty_after_discard();
  return source;
}

heap_options checked(heap_options options) {
  options = options.with_environment();
  if (!options.profile_file.empty() && options.profile_rate == 0)
    options.profile_rate = default_profile_rate;
  options.validate();
  return options;
}

layer_options layers_of(const heap_options& o) {
  return {o.profile_rate, o.trace_file.c_str(), o.annotate, o.quarantine_bytes,
          o.red_zones,    o.clobber_free,       o.efence,   o.sbrk};
}

}  // namespace

struct heap::impl {
  explicit impl(heap_options o)
      : options(checked(std::move(o))),
        chosen(choose_backend(options.backend)),
        arrays(*chosen.memory, options, have_kernels),
        objects(arrays.view().base, arrays.view().bytes, source_of(*chosen.memory)),
        operations(make_operations(chosen.memory->kind(), arrays.view())) {
    make_layers();
    if (top == nullptr) direct = objects.id();
    if (operations == nullptr) return;
    const std::size_t stock = std::min(options.initial_stock_bytes, arrays.view().bytes / 4);
    if (const auto pages = static_cast<std::uint32_t>(stock / page_size); pages != 0)
      if (const page_run run = objects.take_device_pages(1, pages); run.count != 0)
        operations->give_stock(run);

    std::function<void()> idle_work;
    // The executor's device data is in this process's memory; a GPU's is out of reach while
    // kernels run, and the frees wait for the next synchronize().
    if (chosen.memory->kind() == backend_kind::simt)
      idle_work = [this] {
        // Never waits for a bulk operation: whoever holds the lock collects by himself.
        wrong_frees wrong;
        if (const std::unique_lock lock(device_mutex, std::try_to_lock); lock)
          wrong = collect_host_frees();
        report(wrong);
      };
    const auto longest_sleep = std::min<std::chrono::microseconds>(
        std::chrono::microseconds(arrays.view().refill_timeout_ns / 20'000),
        std::chrono::milliseconds(1));
    service = std::make_unique<refill_service>(*arrays.view().queue, objects, std::move(idle_work),
                                               longest_sleep);
    if (options.refill_service) service->start();
  }

  ~impl() {
    try {
      if (operations != nullptr) operations->synchronize();
    } catch (const std::exception& error) {
      say(std::string("warpheap: a kernel had failed when the heap was destroyed: ")
          + error.what());
    }
    if (service != nullptr) service->stop();
    try {
      if (!options.profile_file.empty()) write_profile();
      if (top != nullptr) top->drain();
      if (options.report_leaks && !options.sbrk) report_leaks();
    } catch (const std::exception& error) {
      say(std::string("warpheap: leaks were not counted: ") + error.what());
    }
  }

  void make_layers() {
    const layer_options wanted = layers_of(options);
    if (!wanted.any()) return;
    if (wanted.efence && chosen.memory->kind() != backend_kind::simt)
      throw heap_error(
          "efence needs the CPU backend: it changes the protection of the heap's pages");
    const layer_reports reports{this, [](void* self, error_kind kind, const void* p) {
                                  static_cast<impl*>(self)->note_error(kind, p);
                                }};
    layers.emplace(objects, wanted, reports);
    if (!layers->trace_opened())
      throw heap_error("the file for the trace cannot be written: " + options.trace_file);
    top = &layers->top();
  }

  heap_profile profile() {
    profile_layer* const sampler = layers ? layers->profile() : nullptr;
    return sampler == nullptr ? heap_profile{} : sampler->snapshot();
  }

  void write_profile() {
    std::ofstream file(options.profile_file, std::ios::binary);
    file << (options.profile_file.ends_with(".folded") ? profile().folded() : profile().pprof());
    file.close();
    if (!file) say("warpheap: the profile could not be written to " + options.profile_file);
  }

  void say(const std::string& line) const {
    if (!options.on_report) {
      std::fprintf(stderr, "%s\n", line.c_str());
      return;
    }
    try {
      options.on_report(line);
    } catch (...) {
      // Reports come out of free() and out of destructors, which must not throw.
      std::fprintf(stderr, "%s\nwarpheap: on_report threw an exception\n", line.c_str());
    }
  }

  void report_leaks() {
    synchronize();
    const heap_stats s = count();
    const std::uint64_t objects_left = s.device.live_objects + s.host.live_objects;
    if (objects_left == 0) return;
    say("warpheap: heap destroyed with " + std::to_string(objects_left) + " live objects ("
        + format_bytes(s.bytes_in_use) + "): " + std::to_string(s.device.live_objects)
        + " of kernels, " + std::to_string(s.host.live_objects) + " of the host");
  }

  // --- errors ------------------------------------------------------------------------------------

  void note_error(error_kind kind, const void* p) {
    std::vector<std::string> lines;
    {
      const std::lock_guard lock(error_mutex);
      ++host_errors[static_cast<unsigned>(kind)];
      keep({kind, reinterpret_cast<std::uint64_t>(p)}, lines);
    }
    for (const std::string& line : lines) say(line);
  }

  /// error_mutex is held. What is to be said comes into `lines`, and is said without the lock: the
  /// user's on_report may call the heap.
  void keep(error_record record, std::vector<std::string>& lines) {
    constexpr unsigned most = 8;
    if (recent.size() == error_ring_slots) recent.pop_front();
    recent.push_back(record);
    if (++said > most) return;
    char address[32];
    std::snprintf(address, sizeof address, "%#llx",
                  static_cast<unsigned long long>(record.address));
    lines.push_back(std::string("warpheap: ") + to_string(record.kind) + ": " + address
                    + (said == most ? " (further errors are counted, see heap::errors())" : ""));
  }

  /// Takes over what kernels have recorded, and what the host found out late, since the last time.
  void surface_errors() {
    for (void* p : objects.take_late_double_frees()) note_error(error_kind::double_free, p);
    if (operations == nullptr) return;
    const device_state state = read_state();
    std::vector<std::string> lines;
    {
      const std::lock_guard lock(error_mutex);
      const std::uint64_t oldest =
          state.ring_next > error_ring_slots ? state.ring_next - error_ring_slots : 0;
      for (std::uint64_t i = std::max(device_errors_seen, oldest); i < state.ring_next; ++i)
        keep({static_cast<error_kind>(state.ring_kind[i % error_ring_slots]),
              state.ring_address[i % error_ring_slots]},
             lines);
      device_errors_seen = std::max(device_errors_seen, state.ring_next);
    }
    for (const std::string& line : lines) say(line);
  }

  device_state read_state() {
    const std::lock_guard lock(device_mutex);
    return operations->read_state();
  }

  // --- frees between the sides -------------------------------------------------------------------

  [[gnu::noinline]] void* malloc(std::size_t size) noexcept {
    return top == nullptr ? objects.malloc_slow(size, contents::no_pointers)
                          : layer_malloc(*top, size, contents::no_pointers);
  }
  [[gnu::noinline]] void free_tiny(void* p) noexcept {
    if (!objects.free_tiny(p)) free(p);
  }
  /// A free that is not only setting a bit in one of this thread's spans.
  [[gnu::noinline]] void free(void* p) noexcept {
    const free_status status = top == nullptr ? objects.free_slow(p) : top->free(p);
    if (status == free_status::device_page) return free_device_object(p);
    after_free(p, status);
  }

  free_status free_host_object(void* p) { return top == nullptr ? objects.free(p) : top->free(p); }
  std::size_t usable_size(const void* p) {
    return top == nullptr ? objects.usable_size(p) : top->usable_size(p);
  }

  /// What a free of a host object, or of no object, leads to.
  void after_free(void* p, free_status status) {
    switch (status) {
      case free_status::null:
      case free_status::zero_size: return;
      case free_status::ok:
        if (service != nullptr) service->pages_came_free();
        return;
      case free_status::device_page:
      case free_status::foreign: return note_error(error_kind::foreign_pointer, p);
      case free_status::interior: return note_error(error_kind::interior_pointer, p);
      case free_status::double_free: return note_error(error_kind::double_free, p);
      case free_status::not_allocated: return note_error(error_kind::not_allocated, p);
    }
  }

  void free_device_object(void* p) {
    constexpr std::size_t batch = 1024;
    {
      const std::lock_guard lock(frees_mutex);
      device_frees.push_back(p);
      if (device_frees.size() % batch != 0) return;
    }
    // A bulk operation that holds the lock applies the frees itself, or they wait for the next.
    const std::unique_lock lock(device_mutex, std::try_to_lock);
    if (!lock) return;
    try {
      (void)start_device_frees();
    } catch (const std::exception& error) {
      say(std::string("warpheap: frees of kernels' objects are delayed: ") + error.what());
    }
  }

  /// Starts what can be started without waiting; the rest stays in `device_frees`. True when
  /// nothing is left. device_mutex is held.
  bool start_device_frees() {
    std::vector<void*> batch;
    {
      const std::lock_guard lock(frees_mutex);
      batch.swap(device_frees);
    }
    const auto put_back = [&] {
      const std::lock_guard lock(frees_mutex);
      device_frees.insert(device_frees.end(), batch.begin(), batch.end());
    };
    try {
      const bool all = operations->free_batch(batch);
      if (!all) put_back();
      return all;
    } catch (...) {
      put_back();
      throw;
    }
  }

  using wrong_frees = std::vector<std::pair<void*, free_status>>;

  /// Frees the host's objects that kernels have freed. Returns what was wrong, to be reported
  /// without the lock. device_mutex is held.
  wrong_frees collect_host_frees() {
    wrong_frees wrong;
    for (void* p : operations->take_host_frees()) {
      // A page that has become the device's meanwhile held no live object when the kernel freed.
      const free_status status = free_host_object(p);
      if (status == free_status::ok)
        after_free(p, status);
      else
        wrong.emplace_back(p, status);
    }
    return wrong;
  }
  void report(const wrong_frees& wrong) {
    for (const auto& [p, status] : wrong) after_free(p, status);
  }

  /// Waits for kernels and applies the frees of both sides.
  void synchronize() {
    if (operations == nullptr) return surface_errors();
    wrong_frees wrong;
    {
      const std::lock_guard lock(device_mutex);
      bool all = false;
      do {
        all = start_device_frees();
        operations->synchronize();
      } while (!all);
      wrong = collect_host_frees();
    }
    report(wrong);
    surface_errors();
  }

  // --- statistics --------------------------------------------------------------------------------

  heap_stats count() {
    heap_stats s;
    const host_heap_stats h = objects.stats();
    s.reserve_bytes = arrays.view().bytes;
    s.host = {h.live_objects, h.live_bytes, h.pages_in_use * page_size, h.spans};
    s.host_mallocs = h.mallocs;
    s.host_frees = h.frees;
    s.peak_bytes = h.peak_pages * page_size;
    {
      const std::lock_guard lock(error_mutex);
      std::copy(std::begin(host_errors), std::end(host_errors), s.errors);
    }
    s.errors[static_cast<unsigned>(error_kind::out_of_memory)] += h.out_of_memory;
    if (operations != nullptr) add_device(s);
    s.bytes_in_use = s.device.live_bytes + s.host.live_bytes;
    s.page_bytes = s.device.span_bytes + s.host.span_bytes;
    if (s.page_bytes != 0)
      s.utilisation = static_cast<double>(s.bytes_in_use) / static_cast<double>(s.page_bytes);
    return s;
  }

  void add_device(heap_stats& s) {
    const std::lock_guard lock(device_mutex);
    const device_counts c = operations->recount();
    const device_state state = operations->read_state();
    s.device_classes.resize(span_classes);
    for (unsigned cls = 1; cls < span_classes; ++cls) {
      class_stats& k = s.device_classes[cls];
      k.slot_bytes = slot_bytes(cls);
      k.spans = c.spans[cls];
      k.free_slots = c.free_slots[cls];
      k.live_slots = k.spans * span_words(cls) * 64 - k.free_slots;
      s.device.spans += k.spans;
      s.device.span_bytes += k.spans * span_pages(cls) * page_size;
      s.device.live_bytes += k.live_slots * k.slot_bytes;
      if (cls != tiny_blocks) s.device.live_objects += k.live_slots;
    }
    s.device_tiny_objects = c.tiny_objects;
    s.device_large_objects = c.large_objects;
    s.device.live_objects += c.tiny_objects + c.large_objects;
    s.device.live_bytes += c.large_pages * page_size;
    s.device.span_bytes += c.large_pages * page_size;
    s.stock_bytes = c.stock_pages * page_size;
    s.device_grows = state.grows.value;
    s.device_retires = state.retires.value;
    s.device_pages_home = state.home_pages.value;
    s.host_requests = state.host_requests.value;
    s.host_waits = state.host_waits.value;
    s.longest_wait_ns = state.longest_wait_ns.value;
    s.unreachable_words = c.unreachable_words;
    s.phantom_words = c.phantom_words;
    for (unsigned kind = 0; kind < error_kinds; ++kind) s.errors[kind] += state.errors[kind];
  }

  // --- giving back -------------------------------------------------------------------------------

  /// Ends all rounds of the refill queue, so that no page is on its way. The service does not serve
  /// while the lock lives. device_mutex is held, no kernel runs.
  std::unique_lock<std::mutex> settle_requests() {
    auto held = service->hold();
    operations->repair_refill();
    service->settle(held);
    return held;
  }

  std::size_t trim() {
    synchronize();
    if (operations == nullptr) return objects.trim();
    const std::lock_guard lock(device_mutex);
    const auto held = settle_requests();
    operations->retire_empty_spans();
    for (const page_run run : operations->take_stock()) objects.give_back_device_pages(run);
    const std::size_t bytes = objects.trim();
    service->pages_came_free(held);
    return bytes;
  }

  void reset() {
    synchronize();
    // Objects of the host go first: a layer gives their pages back as they were.
    if (top != nullptr) top->forget();
    if (operations == nullptr) return objects.reset();
    const std::lock_guard lock(device_mutex);
    const auto held = settle_requests();
    operations->reset();
    const std::uint32_t pages = arrays.view().pages;
    for (std::uint32_t p = 0; p < pages;) {
      page_run run{p, 0};
      while (p < pages && objects.is_device_page(p)) ++run.count, ++p;
      if (run.count != 0)
        objects.give_back_device_pages(run);
      else
        ++p;
    }
    objects.reset();
    service->pages_came_free(held);
  }

  const heap_options options;
  const chosen_backend chosen;
  device_memory arrays;
  host_heap objects;
  std::optional<layer_chain> layers;
  object_layer* top = nullptr;  ///< null: the calls go to `objects`
  /// For the fast calls of `objects`: its number, or one that leads past them to the layers.
  std::uint64_t direct = host_heap::no_id;

  std::mutex device_mutex;  ///< guards `operations`
  std::unique_ptr<device_operations> operations;
  std::unique_ptr<refill_service> service;

  std::mutex frees_mutex;
  std::vector<void*> device_frees;  ///< objects of kernels that the host has freed

  std::mutex error_mutex;  ///< guards what follows
  std::deque<error_record> recent;
  std::uint64_t host_errors[error_kinds] = {};
  std::uint64_t device_errors_seen = 0;
  unsigned said = 0;
};

heap::heap() : heap(heap_options{}) {}
heap::heap(heap_options options) : impl_(std::make_unique<impl>(std::move(options))) {}
heap::~heap() = default;
heap::heap(heap&&) noexcept = default;
heap& heap::operator=(heap&&) noexcept = default;

void* heap::malloc(std::size_t size) noexcept {
  impl& self = *impl_;
  void* p = host_heap::malloc_fast(size, contents::no_pointers, self.direct);
  return p != nullptr ? p : self.malloc(size);
}
void* heap::calloc(std::size_t count, std::size_t size) noexcept {
  if (impl_->top != nullptr) [[unlikely]]
    return layer_calloc(*impl_->top, count, size, contents::no_pointers);
  return impl_->objects.calloc(count, size);
}
void* heap::aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  if (impl_->top != nullptr) [[unlikely]]
    return layer_aligned_alloc(*impl_->top, alignment, size, contents::no_pointers);
  return impl_->objects.aligned_alloc(alignment, size);
}

void* heap::realloc(void* p, std::size_t size) noexcept {
  if (p == nullptr) return malloc(size);
  if (size == 0) {
    free(p);
    return malloc(0);
  }
  if (p == impl_->arrays.view().base) return malloc(size);
  const std::size_t old = usable_size(p);
  if (old == 0) {
    impl_->note_error(error_kind::not_allocated, p);
    return nullptr;
  }
  // In place while the size stays in its class, or shrinks by less than half of it. A layer knows
  // of the bytes that were asked for.
  if (impl_->top == nullptr ? size <= old && size > old / 2 : size == old) return p;
  void* moved = malloc(size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, p, std::min(old, size));
  free(p);
  return moved;
}

void heap::free(void* p) noexcept {
  // Each other way is a call in tail position: the common one needs no frame.
  impl& self = *impl_;
  const host_heap::fast_free done = self.objects.free_fast(p, self.direct);
  if (done == host_heap::fast_free::done) [[likely]]
    return;
  if (done == host_heap::fast_free::tiny) return self.free_tiny(p);
  self.free(p);
}
std::size_t heap::usable_size(const void* p) const noexcept { return impl_->usable_size(p); }
heap_profile heap::profile() const { return impl_->profile(); }

heap_view heap::device() const {
  if (impl_->operations == nullptr)
    throw heap_error(
        "this build of warpheap has no kernels: it was configured without CUDA and "
        "with WARPHEAP_SIMT=OFF");
  return impl_->arrays.view();
}

void heap::synchronize() { impl_->synchronize(); }
heap_stats heap::stats() {
  impl_->synchronize();
  return impl_->count();
}

std::size_t heap::trim() { return impl_->trim(); }

void heap::reset() { impl_->reset(); }

std::vector<error_record> heap::errors() {
  impl_->synchronize();
  const std::lock_guard lock(impl_->error_mutex);
  std::vector<error_record> taken(impl_->recent.begin(), impl_->recent.end());
  impl_->recent.clear();
  return taken;
}

backend_kind heap::backend() const noexcept { return impl_->chosen.memory->kind(); }
std::string heap::backend_name() const { return to_string(backend()); }
std::string heap::backend_reason() const { return impl_->chosen.reason; }
std::string heap::device_name() const { return impl_->chosen.memory->device_name(); }
const heap_options& heap::options() const noexcept { return impl_->options; }

void heap::stop_refill_service() {
  if (impl_->service != nullptr) impl_->service->stop();
}
void heap::start_refill_service() {
  if (impl_->service != nullptr) impl_->service->start();
}

}  // namespace warpheap
