// Traces of real programs on the host API of this heap, beside the C library.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/adapter.cuh"
#include "bench/host_memory.hpp"
#include "bench/real_inputs.hpp"
#include "bench/rounds.cuh"

namespace warpheap::bench {
namespace {

template <class Malloc, class Free>
elapsed replay(const trace& what, std::vector<void*>& objects, Malloc&& take, Free&& give) {
  const stopwatch clock;
  for (const trace_event one : what.events) {
    if (one.is_free)
      give(objects[one.object]);
    else
      objects[one.object] = take(what.sizes[one.object]);
  }
  return read(clock);
}

/// The same calls, with a mark at both ends of each object that its free looks for; how many of the
/// mallocs returned a null pointer.
template <class Malloc, class Free>
std::uint64_t verify(const trace& what, std::vector<void*>& objects, Malloc&& take, Free&& give) {
  std::uint64_t nulls = 0;
  for (const trace_event one : what.events) {
    const std::uint64_t size = what.sizes[one.object];
    const auto mark = static_cast<unsigned char>(one.object * 31 + 7);
    auto* bytes = static_cast<unsigned char*>(objects[one.object]);
    if (!one.is_free) {
      bytes = static_cast<unsigned char*>(take(size));
      objects[one.object] = bytes;
      if (bytes == nullptr) {
        ++nulls;
        continue;
      }
      const auto in_32_bits = static_cast<std::uint32_t>(size >> 32 == 0 ? size : 4096);
      const size_plan plan{in_32_bits, in_32_bits, 16};
      if (size != 0 && reinterpret_cast<std::uintptr_t>(bytes) % plan.alignment(in_32_bits) != 0)
        throw integrity_error("object " + std::to_string(one.object) + " of " + std::to_string(size)
                              + " bytes: found it at an address that is not aligned");
      if (size != 0) bytes[0] = bytes[size - 1] = mark;
      continue;
    }
    if (bytes != nullptr && size != 0 && (bytes[0] != mark || bytes[size - 1] != mark))
      throw integrity_error("object " + std::to_string(one.object) + " of " + std::to_string(size)
                            + " bytes: expected it as it was written, found other bytes");
    give(bytes);
  }
  return nulls;
}

template <class Malloc, class Free>
result run_trace(const run_context& run, const trace& what, std::size_t heap_bytes, Malloc&& take,
                 Free&& give) {
  require_events(what);
  std::vector<void*> objects(what.objects());
  const auto count = [&](std::uint64_t nulls) {
    run.count(what.objects(), nulls);
    require_served(nulls, what.objects(), what.peak_bytes, heap_bytes);
  };
  timings event("event", run.wanted.warm_ups());
  const point_clock clock(run);
  for (unsigned i = 0; clock.wants(i); ++i) {
    run.repetition(i);
    event.add(replay(what, objects, take, give), what.events.size());
    // Every object has been made, and none made anew where it was freed.
    count(static_cast<std::uint64_t>(std::count(objects.begin(), objects.end(), nullptr)));
    if (i == 0) count(verify(what, objects, take, give));
  }
  result out;
  out.params = {{"source", what.source},
                {"events", std::uint64_t{what.events.size()}},
                {"objects", what.objects()}};
  out.operations = {event.finish()};
  out.metrics = {{"peak_bytes_of_the_trace", what.peak_bytes},
                 {"total_bytes_of_the_trace", what.total_bytes},
                 {"unknown_frees_left_out", what.unknown_frees},
                 {"never_freed", what.never_freed}};
  return out;
}

result on_heap(const run_context& run, const trace& what) {
  warpheap_adapter allocator(run.reserve_bytes);
  heap& tested = allocator.tested();
  result out = run_trace(
      run, what, run.reserve_bytes, [&](std::size_t size) { return tested.malloc(size); },
      [&](void* p) { tested.free(p); });
  require_empty(tested, "after the replay");
  return out;
}

result on_libc(const run_context& run, const trace& what) {
  return run_trace(
      run, what, available_memory(), [](std::size_t size) { return std::malloc(size); },
      [](void* p) { std::free(p); });
}

struct trace_cases {
  trace_cases() {
    add("real/trace-host-perl", "perl counting words, replayed on the host", perl_trace);
    add("real/trace-host-compiler", "a compiler at work, replayed on the host", compiler_trace);
    add("real/trace-host-file", "the trace of --trace FILE, on the host", file_trace);
  }

 private:
  static void add(const std::string& name, const std::string& summary,
                  const trace& (*load)(const run_context&)) {
    registration({name + "/warpheap", summary, this_backend, 3,
                  [load](const run_context& run) { return on_heap(run, load(run)); }, "real"});
    registration({name + "/libc", summary, this_backend, 3,
                  [load](const run_context& run) { return on_libc(run, load(run)); }, "real"});
  }
};

const trace_cases of_trace;

}  // namespace
}  // namespace warpheap::bench
