#include "bench/trace.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "bench/command.hpp"
#include "bench/text_lines.hpp"

namespace warpheap::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view titles = "Thread,Time,Action,Pointer,Size,Stream";
constexpr std::uint64_t largest_object = std::uint64_t{1} << 40;  // as large as a heap can be
constexpr std::uint64_t most_objects = std::numeric_limits<std::uint32_t>::max();

/// Builds a trace event by event.
class trace_builder {
 public:
  void allocate(std::uint64_t address, std::uint64_t bytes) {
    const auto object = static_cast<std::uint32_t>(out_.sizes.size());
    const auto [at, is_new] = live_.try_emplace(address, object);
    if (!is_new) {
      ++out_.missing_frees;
      free_object(at->second);
      at->second = object;
    }
    out_.sizes.push_back(bytes);
    out_.events.push_back({object, false});
    out_.total_bytes += bytes;
    live_bytes_ += bytes;
    out_.peak_bytes = std::max(out_.peak_bytes, live_bytes_);
  }
  void free(std::uint64_t address) {
    const auto at = live_.find(address);
    if (at == live_.end()) {
      ++out_.unknown_frees;
      return;
    }
    free_object(at->second);
    live_.erase(at);
  }
  void fail() { ++out_.failed; }
  std::uint64_t objects() const { return out_.objects(); }

  trace finish() {
    std::vector<std::uint32_t> rest;
    for (const auto& [address, object] : live_) rest.push_back(object);
    std::sort(rest.begin(), rest.end());
    out_.never_freed = rest.size();
    for (const std::uint32_t object : rest) free_object(object);
    return std::move(out_);
  }

 private:
  void free_object(std::uint32_t object) {
    out_.events.push_back({object, true});
    live_bytes_ -= out_.sizes[object];
  }

  trace out_;
  std::uint64_t live_bytes_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> live_;  // address to object
};

std::optional<std::uint64_t> address_in(std::string_view field) {
  if (field == "(nil)") return 0;
  if (field.starts_with("0x") || field.starts_with("0X")) field.remove_prefix(2);
  return number_in<std::uint64_t>(field, 16);
}

}  // namespace

trace parse_trace(std::string_view text, const std::string& name) {
  line_reader lines(text);
  const std::string_view first = lines.next().value_or("");
  if (first != titles)
    throw bad_input(name, lines.number(),
                    "expected the titles " + std::string(titles) + ", found '"
                        + std::string(first.substr(0, 60)) + "'");
  trace_builder builder;
  while (const auto line = lines.next()) {
    if (line->empty()) continue;
    std::array<std::string_view, 6> fields;
    std::string_view rest = *line;
    std::size_t count = 0;
    for (;; ++count) {
      const std::size_t comma = rest.find(',');
      if (count < fields.size()) fields[count] = rest.substr(0, comma);
      if (comma == rest.npos) break;
      rest.remove_prefix(comma + 1);
    }
    const auto fail = [&](const std::string& what) -> bad_input {
      return {name, lines.number(), what + " in '" + std::string(line->substr(0, 80)) + "'"};
    };
    if (count + 1 != fields.size())
      throw fail("expected 6 fields, found " + std::to_string(count + 1));
    const std::string_view action = fields[2];
    const auto address = address_in(fields[3]);
    const auto bytes = number_in<std::uint64_t>(fields[4]);
    if (action == "allocate failure") {
      builder.fail();
    } else if (!address) {
      throw fail("expected an address");
    } else if (action == "free") {
      builder.free(*address);
    } else if (action != "allocate") {
      throw fail("expected allocate, free or allocate failure");
    } else if (!bytes || *bytes > largest_object) {
      throw fail("expected a size of at most 2^40 bytes");
    } else if (builder.objects() == most_objects) {
      throw fail("expected less than 2^32 objects");
    } else {
      builder.allocate(*address, *bytes);
    }
  }
  trace out = builder.finish();
  out.source = name;
  return out;
}

trace read_trace(const std::string& path) { return parse_trace(read_whole_file(path), path); }

trace record_trace(const std::vector<std::string>& program, std::uint64_t most_events,
                   const std::string& recorder) {
  if (recorder.empty()) return {};
  std::string pattern = (fs::temp_directory_path() / "warpheap-trace-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return {};
  const fs::path folder = pattern;
  std::vector<std::string> command = {"env", "LD_PRELOAD=" + recorder,
                                      "WARPHEAP_TRACE=" + (folder / "trace").string(),
                                      "WARPHEAP_TRACE_EVENTS=" + std::to_string(most_events)};
  command.insert(command.end(), program.begin(), program.end());
  trace out;
  if (read_command(command, [](std::string_view) { return true; })) {
    // A program that runs others leaves a file for each; the largest one is the one meant.
    fs::path largest;
    std::uintmax_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.file_size() > bytes) {
        bytes = entry.file_size();
        largest = entry.path();
      }
    if (bytes != 0) out = read_trace(largest.string());
    out.source.clear();
    for (const auto& word : program) {
      if (!out.source.empty()) out.source += ' ';
      out.source += word.size() > 60 ? word.substr(0, 60) + "..." : word;
    }
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return out;
}

std::string find_recorder() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return "";
  const fs::path found = self.parent_path() / "libwarpheap_recorder.so";
  return fs::exists(found, error) ? found.string() : "";
}

lane_events split_by_lane(const trace& all, std::uint32_t lanes) {
  lane_events out;
  out.begins.assign(lanes + 1, 0);
  for (const trace_event& one : all.events) ++out.begins[one.object % lanes + 1];
  for (std::uint32_t lane = 0; lane < lanes; ++lane) out.begins[lane + 1] += out.begins[lane];
  std::vector<std::uint32_t> next(out.begins.begin(), out.begins.end() - 1);
  out.events.resize(all.events.size());
  for (const trace_event& one : all.events) out.events[next[one.object % lanes]++] = one;
  return out;
}

}  // namespace warpheap::bench
