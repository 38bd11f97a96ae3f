// A heap profile's estimates and its two formats.
#include <cxxabi.h>
#include <dlfcn.h>
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <warpheap/heap_profile.hpp>

namespace warpheap {

heap_profile::estimate heap_profile::estimate_of(const bucket& b) const {
  // An allocation of n bytes is sampled with a probability of 1 - exp(-n / rate).
  double scale = 1;
  if (rate > 1)
    scale /= -std::expm1(-static_cast<double>(b.object_bytes) / static_cast<double>(rate));
  const double bytes = static_cast<double>(b.object_bytes);
  estimate e;
  e.alloc_objects = static_cast<double>(b.allocs) * scale;
  e.live_objects = static_cast<double>(b.allocs - b.frees) * scale;
  e.alloc_bytes = e.alloc_objects * bytes;
  e.live_bytes = e.live_objects * bytes;
  return e;
}

heap_profile::estimate heap_profile::total() const {
  estimate sum;
  for (const bucket& b : buckets) {
    const estimate e = estimate_of(b);
    sum.alloc_objects += e.alloc_objects;
    sum.alloc_bytes += e.alloc_bytes;
    sum.live_objects += e.live_objects;
    sum.live_bytes += e.live_bytes;
  }
  return sum;
}

namespace {

/// As much of the protocol buffers wire format as a profile needs.
class message {
 public:
  void number(unsigned field, std::uint64_t value) {
    if (value == 0) return;  // the default
    varint(field << 3);
    varint(value);
  }
  void text(unsigned field, const std::string& bytes) {
    varint(field << 3 | 2);
    varint(bytes.size());
    bytes_ += bytes;
  }
  void packed(unsigned field, const std::vector<std::uint64_t>& values) {
    message list;
    for (const std::uint64_t value : values) list.varint(value);
    text(field, list.bytes_);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

/// Numbers for texts, 0 for "".
class string_table {
 public:
  std::uint64_t operator()(const std::string& text) {
    const auto [it, fresh] = index_.try_emplace(text, texts_.size());
    if (fresh) texts_.push_back(text);
    return it->second;
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::map<std::string, std::uint64_t> index_{{"", 0}};
  std::vector<std::string> texts_{""};
};

/// An executable mapping of a file in the process.
struct mapping {
  std::uint64_t start, end, offset;
  std::string file;
};

std::vector<mapping> mappings() {
  std::vector<mapping> all;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> maps(std::fopen("/proc/self/maps", "re"),
                                                             &std::fclose);
  if (maps == nullptr) return all;
  char line[PATH_MAX + 128];
  while (std::fgets(line, sizeof line, maps.get()) != nullptr) {
    line[std::strcspn(line, "\n")] = 0;
    mapping m{};
    char access[5] = "";
    int file = 0;  // where its name begins
    const int words = std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n",
                                  &m.start, &m.end, access, &m.offset, &file);
    if (words < 4 || access[2] != 'x' || file == 0 || line[file] == 0) continue;
    m.file = line + file;
    all.push_back(std::move(m));
  }
  return all;
}

struct symbol {
  std::string mangled, readable;  // "" when unknown
};

symbol symbol_at(std::uintptr_t address) {
  Dl_info info{};
  symbol s;
  if (dladdr(reinterpret_cast<void*>(address), &info) == 0 || info.dli_sname == nullptr) return s;
  s.mangled = s.readable = info.dli_sname;
  int status = 0;
  if (char* text = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status)) {
    s.readable = text;
    std::free(text);
  }
  return s;
}

/// A return address lies behind its call, which may be the last instruction of its function.
std::uintptr_t call_of(std::uintptr_t return_address) { return return_address - 1; }

/// Stands for the stack, which an allocation in a kernel does not have.
constexpr std::uintptr_t in_kernels = 0;
constexpr const char* kernels_name = "kernels";

std::uint64_t rounded(double value) { return static_cast<std::uint64_t>(std::llround(value)); }

std::string value_type(string_table& strings, const char* type, const char* unit) {
  message m;
  m.number(1, strings(type));
  m.number(2, strings(unit));
  return m.bytes();
}

}  // namespace

// The field numbers are those of pprof's profile.proto.
std::string heap_profile::pprof() const {
  string_table strings;
  message profile;
  profile.text(1, value_type(strings, "alloc_objects", "count"));
  profile.text(1, value_type(strings, "alloc_space", "bytes"));
  profile.text(1, value_type(strings, "inuse_objects", "count"));
  profile.text(1, value_type(strings, "inuse_space", "bytes"));

  std::map<std::uintptr_t, std::uint64_t> locations;
  for (const bucket& b : buckets) {
    message sample;
    std::vector<std::uint64_t> ids;
    for (const std::uintptr_t address : b.stack)
      ids.push_back(locations.try_emplace(address, locations.size() + 1).first->second);
    if (ids.empty())
      ids.push_back(locations.try_emplace(in_kernels, locations.size() + 1).first->second);
    sample.packed(1, ids);
    const estimate e = estimate_of(b);
    sample.packed(2, {rounded(e.alloc_objects), rounded(e.alloc_bytes), rounded(e.live_objects),
                      rounded(e.live_bytes)});
    message label;
    label.number(1, strings("bytes"));
    label.number(3, b.object_bytes);
    sample.text(3, label.bytes());
    profile.text(2, sample.bytes());
  }

  const std::vector<mapping> maps = mappings();
  for (std::size_t i = 0; i < maps.size(); ++i) {
    message m;
    m.number(1, i + 1);
    m.number(2, maps[i].start);
    m.number(3, maps[i].end);
    m.number(4, maps[i].offset);
    m.number(5, strings(maps[i].file));
    profile.text(3, m.bytes());
  }

  std::map<std::string, std::uint64_t> functions;
  for (const auto& [address, id] : locations) {
    message location;
    location.number(1, id);
    for (std::size_t i = 0; i < maps.size(); ++i) {
      if (maps[i].start <= address && address < maps[i].end) location.number(2, i + 1);
    }
    symbol s{kernels_name, kernels_name};
    if (address != in_kernels) {
      location.number(3, call_of(address));
      s = symbol_at(call_of(address));
    }
    if (!s.mangled.empty()) {
      const auto [it, fresh] = functions.try_emplace(s.mangled, functions.size() + 1);
      if (fresh) {
        message function;
        function.number(1, it->second);
        function.number(2, strings(s.readable));
        function.number(3, strings(s.mangled));
        profile.text(5, function.bytes());
      }
      message line;
      line.number(1, it->second);
      location.text(4, line.bytes());
    }
    profile.text(4, location.bytes());
  }

  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string period_type = value_type(strings, "space", "bytes");
  const std::uint64_t default_type = strings("inuse_space");
  for (const std::string& text : strings.texts()) profile.text(6, text);
  profile.number(9, static_cast<std::uint64_t>(
                        std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()));
  profile.text(11, period_type);
  profile.number(12, rate);
  profile.number(14, default_type);
  return profile.bytes();
}

std::string heap_profile::folded() const {
  std::map<std::string, double> lines;
  for (const bucket& b : buckets) {
    std::string line;
    for (std::size_t i = b.stack.size(); i-- > 0;) {
      symbol s = symbol_at(call_of(b.stack[i]));
      if (s.readable.empty()) {
        Dl_info info{};
        char text[32];
        std::uintptr_t offset = b.stack[i];
        if (dladdr(reinterpret_cast<void*>(b.stack[i]), &info) != 0) {
          offset -= reinterpret_cast<std::uintptr_t>(info.dli_fbase);
          const std::string file = info.dli_fname != nullptr ? info.dli_fname : "";
          s.readable = file.substr(file.rfind('/') + 1);
        }
        std::snprintf(text, sizeof text, "+%#zx", static_cast<std::size_t>(offset));
        s.readable += text;
      }
      // The format cannot represent a semicolon in a name.
      std::replace(s.readable.begin(), s.readable.end(), ';', ':');
      line += (line.empty() ? "" : ";") + s.readable;
    }
    lines[line.empty() ? kernels_name : line] += estimate_of(b).live_bytes;
  }
  std::string text;
  for (const auto& [line, bytes] : lines) {
    if (rounded(bytes) != 0) text += line + " " + std::to_string(rounded(bytes)) + "\n";
  }
  return text;
}

}  // namespace warpheap
