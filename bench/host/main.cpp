// warpheap_bench_host: runs one workload with the malloc that this process has, and prints
//   op BYTES NS CPU_NS   for each measurement
//   calls MALLOCS NULLS  of the workload
//   rss START PEAK END   in KiB, before the workload, at most, and after everything was freed
// usage: warpheap_bench_host WORKLOAD THREADS TOUCH SCALE [LIBRARY]
// Exit status 3: LIBRARY, whose malloc it was to be, is not in this process.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "bench/host/process_status.hpp"
#include "bench/host/workloads.hpp"

namespace {

bool is_loaded(const std::string& library) {
  std::ifstream maps("/proc/self/maps");
  const std::string text{std::istreambuf_iterator<char>(maps), {}};
  return text.find(library) != text.npos;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace warpheap::bench::host;
  if (argc < 5) return 2;
  if (argc > 5 && !is_loaded(argv[5])) return 3;
  const setting how{static_cast<unsigned>(std::atoi(argv[2])), std::atoi(argv[3]) != 0,
                    std::atof(argv[4])};
  for (const workload& w : workloads()) {
    if (std::strcmp(w.name, argv[1]) != 0) continue;
    const std::size_t start = status_kib("VmRSS:");
    const std::vector<measurement> all = w.run(how);
    const std::size_t end = status_kib("VmRSS:");
    for (const measurement& m : all)
      std::printf("op %zu %.4f %.4f\n", m.bytes, m.ns_per_op, m.cpu_ns_per_op);
    std::printf("calls %ju %ju\n", std::uintmax_t{mallocs_made()}, std::uintmax_t{null_pointers()});
    std::printf("rss %zu %zu %zu\n", start, status_kib("VmHWM:"), end);
    return damaged_objects() == 0 ? 0 : 1;
  }
  return 2;
}
