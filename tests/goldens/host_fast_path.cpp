// Mallocs and frees of the host for tools/host_counts, which counts their instructions:
//   warpheap_fast_path MALLOCS FREES
// makes so many calls of each after a warm-up, at most 62, all within one word of a span.
#include <cstdlib>

#include <warpheap/heap.hpp>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int mallocs = std::atoi(argv[1]), frees = std::atoi(argv[2]);
  if (mallocs > 62 || frees > mallocs) return 2;
  warpheap::heap heap({.reserve_bytes = std::size_t{64} << 20,
                       .backend = warpheap::backend_kind::simt,
                       .report_leaks = false});
  // A word of the first span, and the first slot of the next word.
  for (int i = 0; i < 65; ++i) {
    if (heap.malloc(48) == nullptr) return 1;
  }
  void* all[62];
  for (int i = 0; i < mallocs; ++i) all[i] = heap.malloc(48);
  for (int i = 0; i < frees; ++i) heap.free(all[i]);
  return 0;
}
