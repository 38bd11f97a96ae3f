#include "bench/progress.hpp"

#include <unistd.h>
#include <cstdio>

namespace warpheap::bench {
namespace {

constexpr std::chrono::milliseconds terminal_interval{100};
constexpr std::chrono::seconds log_interval{5};

}  // namespace

std::string duration_text(std::chrono::seconds time) {
  const auto seconds = time.count();
  if (seconds < 90) return std::to_string(seconds) + " s";
  const auto minutes = (seconds + 30) / 60;
  if (minutes < 90) return std::to_string(minutes) + " min";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

progress::progress()
    : terminal_(::isatty(STDERR_FILENO) == 1),
      last_(std::chrono::steady_clock::now()),
      started_(last_) {}

progress::~progress() { clear(); }

void progress::begin_case(const std::string& name, std::size_t number, std::size_t of) {
  case_ = '[' + std::to_string(number) + '/' + std::to_string(of);
  if (const std::size_t done = number - 1; done != 0) {
    const auto so_far = std::chrono::steady_clock::now() - started_;
    const auto left = so_far * static_cast<double>(of - done) / static_cast<double>(done);
    case_ += ", about " + duration_text(std::chrono::duration_cast<std::chrono::seconds>(left))
             + " left";
  }
  case_ += "] " + name;
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
