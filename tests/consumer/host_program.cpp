// The least that a program on the host does with the installed package.
#include <cstdio>
#include <cstring>
#include <warpheap/heap.hpp>

int main() {
  warpheap::heap heap{{.reserve_bytes = std::size_t{64} << 20}};
  char* text = static_cast<char*>(heap.malloc(100));
  if (text == nullptr) return 1;
  std::strcpy(text, "on the host");
  std::puts(text);
  heap.free(text);
  return 0;
}
