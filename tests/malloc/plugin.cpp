// A library that is loaded and unloaded: it allocates in its constructors and frees in its
// destructors, on the thread that loads it and on those that use it.
#include <cstdlib>
#include <cstring>
#include <map>
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
