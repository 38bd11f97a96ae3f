// Lines and fields of a text that is in memory, for the readers of input files.
#pragma once

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>

namespace warpheap::bench {

/// The lines of a text one by one, without their ends (LF or CRLF), counted from 1.
class line_reader {
 public:
  explicit line_reader(std::string_view text) : rest_(text) {}

  /// nullopt after the last one.
  std::optional<std::string_view> next() {
    if (rest_.empty()) return std::nullopt;
    const std::size_t end = rest_.find('\n');
    std::string_view line = rest_.substr(0, end);
    rest_ = end == rest_.npos ? std::string_view() : rest_.substr(end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    ++number_;
    return line;
  }
  std::size_t number() const { return number_; }

 private:
  std::string_view rest_;
  std::size_t number_ = 0;
};

/// Takes the next field from the front of a line; fields are separated by any of `separators`,
/// which may be repeated. Empty at the end.
inline std::string_view take_field(std::string_view& line, std::string_view separators) {
  const std::size_t begin = line.find_first_not_of(separators);
  if (begin == line.npos) {
    line = {};
    return {};
  }
  line.remove_prefix(begin);
  const std::string_view field = line.substr(0, line.find_first_of(separators));
  line.remove_prefix(field.size());
  return field;
}

/// The whole field as a number; nullopt if it is none, or too large.
template <class Number>
std::optional<Number> number_in(std::string_view field, int base = 10) {
  Number value{};
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, base);
  if (error != std::errc{} || end != field.data() + field.size()) return std::nullopt;
  return value;
}

}  // namespace warpheap::bench
