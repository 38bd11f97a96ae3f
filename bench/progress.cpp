#include "bench/progress.hpp"

#include <unistd.h>
#include <cstdio>

namespace warpheap::bench {
namespace {

constexpr std::chrono::milliseconds terminal_interval{100};
constexpr std::chrono::seconds log_interval{5};

}  // namespace

progress::progress()
    : terminal_(::isatty(STDERR_FILENO) == 1), last_(std::chrono::steady_clock::now()) {}

progress::~progress() { clear(); }

void progress::begin_case(const std::string& name, std::size_t number, std::size_t of) {
  case_ = '[' + std::to_string(number) + '/' + std::to_string(of) + "] " + name;
  step("starts");
}

void progress::step(const std::string& what) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(terminal_interval)
                               : std::chrono::milliseconds(log_interval)))
    return;
  last_ = now;
  std::fprintf(stderr, terminal_ ? "\r\033[K%s: %s" : "%s: %s\n", case_.c_str(), what.c_str());
  std::fflush(stderr);
  shown_ = terminal_;
}

void progress::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace warpheap::bench
