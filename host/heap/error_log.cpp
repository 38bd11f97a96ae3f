#include "host/heap/error_log.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>

namespace warpheap {

void error_log::say(const std::string& line) const {
  if (!options_.on_report) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  // Reports come out of free() and out of destructors, which must not throw.
  try {
    options_.on_report(line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\nwarpheap: on_report threw an exception: %s\n", line.c_str(),
                 error.what());
  } catch (...) {
    std::fprintf(stderr, "%s\nwarpheap: on_report threw an exception\n", line.c_str());
  }
}

void error_log::note(error_kind kind, const void* p) {
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(mutex_);
    ++host_errors_[static_cast<unsigned>(kind)];
    keep({kind, reinterpret_cast<std::uint64_t>(p)}, lines);
  }
  for (const std::string& line : lines) say(line);
}

void error_log::note_device(const device_state& state) {
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t oldest =
        state.ring_next > error_ring_slots ? state.ring_next - error_ring_slots : 0;
    for (std::uint64_t i = std::max(device_errors_seen_, oldest); i < state.ring_next; ++i)
      keep({static_cast<error_kind>(state.ring_kind[i % error_ring_slots]),
            state.ring_address[i % error_ring_slots]},
           lines);
    device_errors_seen_ = std::max(device_errors_seen_, state.ring_next);
  }
  for (const std::string& line : lines) say(line);
}

void error_log::note_out_of_memory(std::size_t bytes, std::size_t in_use) noexcept {
  try {
    std::vector<std::string> lines;
    {
      const std::lock_guard lock(mutex_);
      keep({error_kind::out_of_memory, bytes},
           "cannot allocate " + std::to_string(bytes) + "-byte block (" + std::to_string(in_use)
               + " in use)",
           lines);
    }
    for (const std::string& line : lines) say(line);
  } catch (const std::exception&) {
    // The process has no memory either, and nothing is left to say it with.
  }
}

/// mutex_ is held. What is to be said comes into `lines`.
void error_log::keep(error_record record, std::vector<std::string>& lines) {
  char address[32];
  std::snprintf(address, sizeof address, "%#llx", static_cast<unsigned long long>(record.address));
  keep(record, address, lines);
}

void error_log::keep(error_record record, const std::string& what,
                     std::vector<std::string>& lines) {
  constexpr unsigned most = 8;
  if (recent_.size() == error_ring_slots) recent_.pop_front();
  recent_.push_back(record);
  unsigned& said = said_[static_cast<unsigned>(record.kind)];
  if (++said > most) return;
  lines.push_back(std::string("warpheap: ") + to_string(record.kind) + ": " + what
                  + (said == most ? " (further errors are counted, see heap::errors())" : ""));
}

void error_log::copy_counts(std::uint64_t (&counts)[error_kinds]) const {
  const std::lock_guard lock(mutex_);
  std::copy(std::begin(host_errors_), std::end(host_errors_), counts);
}

std::vector<error_record> error_log::take_recent() {
  const std::lock_guard lock(mutex_);
  std::vector<error_record> taken(recent_.begin(), recent_.end());
  recent_.clear();
  return taken;
}

}  // namespace warpheap
