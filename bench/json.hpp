// A small JSON writer: values go out in the order they are written, nothing is kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace warpheap::bench {

/// The text as a JSON string with its quotes. Bytes that are not valid UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

/// Shortest text that reads back as the same number; "null" for what JSON can't hold (NaN,
/// infinity).
std::string json_number(double value);

/// Writes nested objects and arrays with two spaces of indentation a level.
class json_writer {
 public:
  void begin_object();
  void end_object();
  void begin_array();
  void end_array();
  void key(std::string_view name);

  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(double number);
  void value(std::int64_t number);
  void value(std::uint64_t number);
  void value(bool truth);
  void null();

  template <class T>
  void member(std::string_view name, const T& content) {
    key(name);
    value(content);
  }

  /// The text so far; complete once every object and array is closed.
  const std::string& text() const { return text_; }

 private:
  void before_value();
  void raw(std::string_view token);
  void open(char bracket);
  void close(char bracket);
  void new_line();

  std::string text_;
  std::vector<bool> has_members_;  // one per open object or array
  bool after_key_ = false;
};

}  // namespace warpheap::bench
