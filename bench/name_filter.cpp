#include "bench/name_filter.hpp"

#include <array>

#include "bench/options.hpp"

namespace warpheap::bench {

void name_filter::release::operator()(regex_t* compiled) const {
  regfree(compiled);
  delete compiled;
}

name_filter::name_filter(const std::string& expression) {
  if (expression.empty()) return;
  auto compiled = std::make_unique<regex_t>();
  if (const int error = regcomp(compiled.get(), expression.c_str(), REG_EXTENDED | REG_NOSUB)) {
    std::array<char, 256> why{};
    regerror(error, compiled.get(), why.data(), why.size());
    throw usage_error("--filter: '" + expression + "' is not a regular expression (" + why.data()
                      + ')');
  }
  compiled_.reset(compiled.release());
}

bool name_filter::matches(const std::string& name) const {
  return compiled_ == nullptr || regexec(compiled_.get(), name.c_str(), 0, nullptr, 0) == 0;
}

}  // namespace warpheap::bench
