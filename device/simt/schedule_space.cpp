// The order in which a bounded exploration enumerates schedules.
#include <charconv>
#include <stdexcept>
#include <warpheap/simt_explore.hpp>

namespace warpheap::simt {

unsigned schedule_space::choose(unsigned options, bool counts) {
  if (options == 1) return 0;
  if (at_ == path_.size()) path_.push_back({0, options, counts});
  choice& c = path_[at_++];
  if (c.options == 0) c = {c.taken, options, counts};  // from a text
  if (c.options != options || c.counts != counts || c.taken >= options)
    throw std::logic_error("the kernels do not do the same when they are scheduled the same");
  return c.taken;
}

bool schedule_space::next() {
  // An exploration that failed half-way may leave choices behind that it did not reach.
  path_.resize(at_);
  at_ = 0;
  spent_ = 0;
  for (const choice& c : path_) spent_ += c.counts && c.taken != 0;
  while (!path_.empty()) {
    choice& c = path_.back();
    if (may_differ(c)) {
      if (c.taken + 1 < c.options) {
        spent_ += c.counts && c.taken == 0;
        ++c.taken;
        ++number_;
        return true;
      }
    } else {
      cut_ = true;
    }
    spent_ -= c.counts && c.taken != 0;
    path_.pop_back();
  }
  return false;
}

std::string schedule_space::text() const {
  std::string text;
  for (std::size_t i = 0; i < path_.size(); ++i) {
    if (path_[i].taken == 0) continue;
    if (!text.empty()) text += ',';
    text += std::to_string(i) + ':' + std::to_string(path_[i].taken);
  }
  return text.empty() ? "plain" : text;
}

void schedule_space::replay(const std::string& text) {
  const auto refuse = [&] { throw std::invalid_argument("not a schedule: " + text); };
  path_.clear();
  at_ = 0;
  if (text == "plain") return;
  const char* p = text.data();
  const char* const end = p + text.size();
  const auto number = [&](auto& n) {
    const auto [rest, error] = std::from_chars(p, end, n);
    if (error != std::errc()) refuse();
    p = rest;
  };
  while (p != end) {
    std::size_t at = 0;
    unsigned taken = 0;
    number(at);
    if (p == end || *p++ != ':' || at < path_.size() || at > 1'000'000) refuse();
    number(taken);
    if (p != end && *p++ != ',') refuse();
    path_.resize(at, {0, 0, false});
    path_.push_back({taken, 0, false});
  }
}

}  // namespace warpheap::simt
