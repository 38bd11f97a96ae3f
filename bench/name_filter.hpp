// The regular expression of --filter.
#pragma once

#include <memory>
#include <string>

#include <regex.h>

namespace warpheap::bench {

/// A POSIX extended regular expression, searched anywhere in a name. The empty one matches all.
class name_filter {
 public:
  /// Throws usage_error that names the expression and what is wrong with it.
  explicit name_filter(const std::string& expression);
  bool matches(const std::string& name) const;

 private:
  struct release {
    void operator()(regex_t* compiled) const;
  };
  std::unique_ptr<regex_t, release> compiled_;
};

}  // namespace warpheap::bench
