// What a program allocated and freed, in the CSV form in which RMM logs it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/bad_input.hpp"

namespace warpheap::bench {

/// One call. Objects are numbered in the order in which they were made.
struct trace_event {
  std::uint32_t object;
  bool is_free;
};

/// Every object is made once and freed once; those that the program never freed are freed behind
/// its last event.
struct trace {
  std::vector<trace_event> events;
  std::vector<std::uint64_t> sizes;  // of the objects
  std::uint64_t peak_bytes = 0;      // most bytes live at once
  std::uint64_t total_bytes = 0;     // of all objects
  std::uint64_t failed = 0;          // "allocate failure": left out
  std::uint64_t unknown_frees = 0;   // of objects from before the log: left out
  std::uint64_t missing_frees = 0;   // an address came again: freed there
  std::uint64_t never_freed = 0;     // freed at the end
  std::string source;

  std::uint64_t objects() const { return sizes.size(); }
};

/// A line "Thread,Time,Action,Pointer,Size,Stream", then one for each event with the action
/// allocate, free or "allocate failure". Pointers are hexadecimal. Throws bad_input, with `name`
/// for the file's.
trace parse_trace(std::string_view text, const std::string& name);

/// Reads the file, decompressed by its name. Throws bad_input.
trace read_trace(const std::string& path);

/// Runs a program with the recorder of this build in it and reads what it wrote; at most
/// `most_events` events are recorded. An empty trace if the program or the recorder is missing.
trace record_trace(const std::vector<std::string>& program, std::uint64_t most_events,
                   const std::string& recorder);

/// The recorder beside this executable; empty if it is not there.
std::string find_recorder();

/// The events of each of `lanes` lanes, one lane after the other: an object belongs to lane
/// (number % lanes) with all its events, which keep their order.
struct lane_events {
  std::vector<trace_event> events;
  std::vector<std::uint32_t> begins;  // lanes + 1
};
lane_events split_by_lane(const trace& all, std::uint32_t lanes);

}  // namespace warpheap::bench
