#include "bench/json.hpp"

#include <array>
#include <charconv>
#include <cmath>

namespace warpheap::bench {
namespace {

// Length of the well-formed UTF-8 sequence at the front of `text` (1 to 4), or 0.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first < 0xf0) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xe0 && byte(1) < 0xa0) return 0;   // longer than need be
    if (first == 0xed && byte(1) >= 0xa0) return 0;  // a surrogate
    return 3;
  }
  if (first >= 0xf0 && first < 0xf5) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xf0 && byte(1) < 0x90) return 0;
    if (first == 0xf4 && byte(1) >= 0x90) return 0;  // above U+10FFFF
    return 4;
  }
  return 0;
}

}  // namespace

std::string json_quote(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\\ufffd";
    } else if (length > 1) {
      out += text.substr(0, length);
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += "\\u00";
      out += digits[static_cast<unsigned char>(c) >> 4];
      out += digits[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out += '"';
}

std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc{} ? std::string(buffer.data(), end) : "null";
}

void json_writer::new_line() {
  text_ += '\n';
  text_.append(2 * has_members_.size(), ' ');
}

void json_writer::before_value() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (has_members_.empty()) return;
  if (has_members_.back()) text_ += ',';
  has_members_.back() = true;
  new_line();
}

void json_writer::raw(std::string_view token) {
  before_value();
  text_ += token;
}

void json_writer::open(char bracket) {
  before_value();
  text_ += bracket;
  has_members_.push_back(false);
}

void json_writer::close(char bracket) {
  const bool any = has_members_.back();
  has_members_.pop_back();
  if (any) new_line();
  text_ += bracket;
}

void json_writer::begin_object() { open('{'); }
void json_writer::end_object() { close('}'); }
void json_writer::begin_array() { open('['); }
void json_writer::end_array() { close(']'); }

void json_writer::key(std::string_view name) {
  before_value();
  text_ += json_quote(name);
  text_ += ": ";
  after_key_ = true;
}

void json_writer::value(std::string_view text) { raw(json_quote(text)); }
void json_writer::value(double number) { raw(json_number(number)); }
void json_writer::value(std::int64_t number) { raw(std::to_string(number)); }
void json_writer::value(std::uint64_t number) { raw(std::to_string(number)); }
void json_writer::value(bool truth) { raw(truth ? "true" : "false"); }
void json_writer::null() { raw("null"); }

}  // namespace warpheap::bench
