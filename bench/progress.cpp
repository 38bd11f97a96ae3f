#include "bench/progress.hpp"

#include <unistd.h>
#include <cstdio>
#include <numeric>

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
    : terminal_(::isatty(STDERR_FILENO) == 1), last_(std::chrono::steady_clock::now()) {}

progress::~progress() { clear(); }

std::optional<double> seconds_left(const std::vector<double>& took, std::size_t cases,
                                   std::size_t passes) {
  const std::size_t done = took.size();
  if (done == 0) return std::nullopt;
  const double mean = std::accumulate(took.begin(), took.end(), 0.0) / static_cast<double>(done);
  double left = 0;
  for (std::size_t next = done; next < cases * passes; ++next) {
    const std::size_t which = next % cases;
    left += which < done ? took[done - 1 - (done - 1 - which) % cases] : mean;
  }
  return left;
}

void progress::begin_case(const std::string& name, std::size_t number, std::size_t of,
                          std::optional<double> left) {
  case_ = '[' + std::to_string(number) + '/' + std::to_string(of);
  if (left)
    case_ +=
        ", about " + duration_text(std::chrono::seconds(static_cast<long long>(*left))) + " left";
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
