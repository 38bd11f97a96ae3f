// A library that is loaded and unloaded: it allocates in its constructors and frees in its
// destructors, on the thread that loads it and on those that use it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <string>

namespace {

struct static_objects {
  std::map<int, std::string> names;
  static_objects() {
    for (int i = 0; i < 100; ++i) names[i] = std::string(std::size_t(i) * 10, 'x');
  }
};
static_objects objects;
thread_local std::string of_thread = "a string that is too long to be kept in place";

}  // namespace

extern "C" char* plugin_text(int i) {
  of_thread += 'x';
  char* text = static_cast<char*>(std::malloc(objects.names.at(i).size() + 1));
  return text == nullptr ? nullptr : std::strcpy(text, objects.names.at(i).c_str());
}

/// 0 when each new that fails does so as the plugin's own C++ runtime has it; else the failed
/// check.
extern "C" int plugin_new_fails() {
  static volatile std::size_t too_much = SIZE_MAX / 4;
  static int handler_calls = 0;
  const auto throws = [] {
    try {
      void* volatile made = operator new(too_much);  // no compiler may leave it out
      operator delete(made);
      return false;
    } catch (const std::bad_alloc&) {
      return true;
    }
  };
  if (!throws()) return 20;
  if (std::uncaught_exceptions() != 0) return 21;
  std::set_new_handler([] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  if (!throws() || handler_calls != 1) return 22;
  if (operator new(too_much, std::nothrow) != nullptr || handler_calls != 2) return 23;
  if (std::uncaught_exceptions() != 0) return 24;
  std::set_new_handler(nullptr);
  return 0;
}
