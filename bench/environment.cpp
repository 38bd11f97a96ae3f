#include "bench/environment.hpp"

#include <sys/utsname.h>
#include <unistd.h>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>

#include "bench/command.hpp"
#include "bench/host_memory.hpp"

#ifndef WARPHEAP_BUILD_FLAGS
#define WARPHEAP_BUILD_FLAGS "unknown"
#endif

namespace warpheap::bench {
namespace {

std::string first_line(const char* path) {
  std::string line;
  std::getline(std::ifstream(path) >> std::ws, line);
  return line;
}

void add_text(fields& out, const char* name, std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  if (!text.empty()) out.emplace_back(name, std::move(text));
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  char text[32];
  ::gmtime_r(&now, &utc);
  return std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) != 0 ? text : "";
}

/// "name: value" lines of /proc/cpuinfo; the first one counts.
std::string cpu_info(std::string_view name) {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with(name))
      if (const auto colon = line.find(": "); colon != line.npos) return line.substr(colon + 2);
  return "";
}

}  // namespace

fields describe_environment() {
  fields out;
  add_text(out, "time", time_now());
#ifdef __clang__
  add_text(out, "compiler", "clang " __VERSION__);
#else
  add_text(out, "compiler", "gcc " __VERSION__);
#endif
#ifdef WARPHEAP_CUDA_COMPILER
  add_text(out, "cuda_compiler", WARPHEAP_CUDA_COMPILER);
#endif
  add_text(out, "flags", WARPHEAP_BUILD_FLAGS);
  utsname system{};
  if (::uname(&system) == 0)
    add_text(out, "system",
             std::string(system.sysname) + ' ' + system.release + ' ' + system.machine);
  add_text(out, "cpu", cpu_info("model name"));
  add_text(out, "cpu_mhz_at_start", cpu_info("cpu MHz"));
  add_text(out, "cpu_governor",
           first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
  out.emplace_back("cpus", std::int64_t{::sysconf(_SC_NPROCESSORS_ONLN)});
  out.emplace_back("memory_available_bytes", std::uint64_t{available_memory()});
  double load = 0;
  if (::getloadavg(&load, 1) == 1) out.emplace_back("load_average_at_start", load);
  if (const char* changed = std::getenv("WARPHEAP")) add_text(out, "WARPHEAP", changed);

  std::string gpu;
  const auto append = [&gpu](std::string_view piece) {
    gpu += piece;
    return true;
  };
  if (read_command({"nvidia-smi",
                    "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,pstate,"
                    "power.limit,mig.mode.current",
                    "--format=csv,noheader"},
                   append))
    add_text(out, "gpu_name_driver_clocks_power_mig", gpu);
  return out;
}

}  // namespace warpheap::bench
