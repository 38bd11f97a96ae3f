// Child processes for the tests of the preloaded library.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstdlib>
#include <string>

namespace warpheap::test {

struct ended {
  int code = -1;       ///< exit status; minus the signal that ended it
  std::string errors;  ///< what it wrote to standard error
};

/// f() in a child, which exits with its answer; 30 s at most.
template <class F>
ended in_child(F&& f) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    alarm(30);
    _exit(f());
  }
  close(ends[1]);
  ended e;
  char text[4096];
  for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
    e.errors.append(text, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  e.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return e;
}

/// Runs one test of this program in a process of its own, started after prepare().
template <class F>
ended run_disabled_test(const std::string& name, F&& prepare) {
  return in_child([&] {
    prepare();
    const std::string filter = "--gtest_filter=*DISABLED_" + name;
    execl("/proc/self/exe", "malloc_tests", filter.c_str(), "--gtest_also_run_disabled_tests",
          static_cast<char*>(nullptr));
    return 99;
  });
}

}  // namespace warpheap::test
