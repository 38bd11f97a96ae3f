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
  // Reports are made in free() and in destructors, which must not throw.
  try {
    options_.on_report(line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\nwarpheap: on_report threw an exception: %s\n", line.c_str(),
                 error.what());
  } catch (...) {
    std::fprintf(stderr, "%s\nwarpheap: on_report threw an exception\n", line.c_str());
  }
}

void error_log::say(const char* what, const char* why) const noexcept {
  try {
    return say(std::string("warpheap: ") + what + why);
  } catch (const std::exception&) {
    // No memory for the line.
  }
  std::fprintf(stderr, "warpheap: %s%s\n", what, why);
}

/// Reports the line-th line about errors of this kind; nothing for 0.
void error_log::say(error_kind kind, const char* what, unsigned line) const noexcept {
  if (line == 0) return;
  char text[160];
  std::snprintf(text, sizeof text, "%s: %s%s", to_string(kind), what,
                line == most_said ? " (further errors are counted, see heap::errors())" : "");
  say(text, "");
}

namespace {

/// An address as text.
struct address_text {
  explicit address_text(std::uint64_t address) {
    std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(address));
  }
  char text[32];
};

}  // namespace

void error_log::note(error_kind kind, const void* p) noexcept {
  const auto address = reinterpret_cast<std::uint64_t>(p);
  unsigned line = 0;
  {
    const std::lock_guard lock(mutex_);
    ++host_errors_[static_cast<unsigned>(kind)];
    keep({kind, address});
    line = next_line(kind);
  }
  say(kind, address_text(address).text, line);
}

void error_log::count(error_kind kind, const void* p) noexcept {
  const std::lock_guard lock(mutex_);
  ++host_errors_[static_cast<unsigned>(kind)];
  keep({kind, reinterpret_cast<std::uint64_t>(p)});
}

void error_log::note_device(const device_state& state) noexcept {
  struct {
    error_record record;
    unsigned line;
  } lines[error_kinds * most_said];
  unsigned n = 0;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t oldest =
        state.ring_next > error_ring_slots ? state.ring_next - error_ring_slots : 0;
    for (std::uint64_t i = std::max(device_errors_seen_, oldest); i < state.ring_next; ++i) {
      const error_record record{static_cast<error_kind>(state.ring_kind[i % error_ring_slots]),
                                state.ring_address[i % error_ring_slots]};
      keep(record);
      if (const unsigned line = next_line(record.kind); line != 0) lines[n++] = {record, line};
    }
    device_errors_seen_ = std::max(device_errors_seen_, state.ring_next);
  }
  for (unsigned i = 0; i < n; ++i)
    say(lines[i].record.kind, address_text(lines[i].record.address).text, lines[i].line);
}

void error_log::note_out_of_memory(std::size_t bytes, std::size_t in_use) noexcept {
  unsigned line = 0;
  {
    const std::lock_guard lock(mutex_);
    keep({error_kind::out_of_memory, bytes});
    line = next_line(error_kind::out_of_memory);
  }
  char what[80];
  std::snprintf(what, sizeof what, "cannot allocate %zu-byte block (%zu in use)", bytes, in_use);
  say(error_kind::out_of_memory, what, line);
}

/// mutex_ is held.
void error_log::keep(error_record record) { recent_[kept_++ % error_ring_slots] = record; }

/// The number of an error's line among those about its kind; 0: it gets no line. mutex_ is held.
unsigned error_log::next_line(error_kind kind) {
  unsigned& said = said_[static_cast<unsigned>(kind)];
  if (said == most_said) return 0;
  return ++said;
}

void error_log::copy_counts(std::uint64_t (&counts)[error_kinds]) const {
  const std::lock_guard lock(mutex_);
  std::copy(std::begin(host_errors_), std::end(host_errors_), counts);
}

std::vector<error_record> error_log::take_recent() {
  const std::lock_guard lock(mutex_);
  taken_ = std::max(taken_, kept_ - std::min<std::uint64_t>(kept_, error_ring_slots));
  std::vector<error_record> taken;
  taken.reserve(kept_ - taken_);
  while (taken_ < kept_) taken.push_back(recent_[taken_++ % error_ring_slots]);
  return taken;
}

}  // namespace warpheap
