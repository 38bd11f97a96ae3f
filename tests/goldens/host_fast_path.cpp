// Mallocs and frees of the host for tools/host_counts, which counts their instructions:
//   warpheap_fast_path MALLOCS FREES
// makes so many calls of each after a warm-up, at most 62, all within one word of a span. With a
// third argument it calls the malloc and free of the process instead, for the preloaded library.
#include <cstdlib>

#include <warpheap/heap.hpp>

namespace {

template <class Malloc, class Free>
int run(int mallocs, int frees, Malloc&& take, Free&& give) {
  // A word of the first span, and the first slot of the next word.
  for (int i = 0; i < 65; ++i) {
    if (take(48) == nullptr) return 1;
  }
  void* all[62];
  for (int i = 0; i < mallocs; ++i) all[i] = take(48);
  for (int i = 0; i < frees; ++i) give(all[i]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return 2;
  const int mallocs = std::atoi(argv[1]), frees = std::atoi(argv[2]);
  if (mallocs > 62 || frees > mallocs) return 2;
  if (argc == 4) {
    // Through pointers that the compiler does not know: it takes pairs of these calls out.
    void* (*volatile take)(std::size_t) = std::malloc;
    void (*volatile give)(void*) = std::free;
    return run(mallocs, frees, take, give);
  }
  warpheap::heap heap({.reserve_bytes = std::size_t{64} << 20,
                       .backend = warpheap::backend_kind::simt,
                       .report_leaks = false});
  return run(
      mallocs, frees, [&](std::size_t n) { return heap.malloc(n); },
      [&](void* p) { heap.free(p); });
}
