#include "bench/command.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "bench/bad_input.hpp"

extern "C" char** environ;  // NOLINT: the name POSIX gives it

namespace warpheap::bench {
namespace {

class descriptor {
 public:
  explicit descriptor(int number) : number_(number) {}
  ~descriptor() { reset(); }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;

  int get() const { return number_; }
  void reset() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

enum class read_end { all, stopped, error };

read_end pump(int from, const byte_sink& sink) {
  std::vector<char> buffer(256 * 1024);
  for (;;) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return read_end::error;
    if (got == 0) return read_end::all;
    if (!sink({buffer.data(), static_cast<std::size_t>(got)})) return read_end::stopped;
  }
}

}  // namespace

bool read_command(const std::vector<std::string>& arguments, const byte_sink& sink) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  descriptor from(ends[0]);
  descriptor to(ends[1]);

  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, to.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // The child must die of SIGPIPE when the sink has enough, whatever this program does with it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  to.reset();
  if (failed != 0) return false;

  const read_end end = pump(from.get(), sink);
  from.reset();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return end == read_end::stopped
         || (end == read_end::all && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

bool read_plain_file(const std::string& path, const byte_sink& sink) {
  const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file.get() >= 0 && pump(file.get(), sink) != read_end::error;
}

bool read_file(const std::string& path, bool apt, const byte_sink& sink) {
  constexpr std::array<std::pair<std::string_view, const char*>, 5> tools = {
      {{".lz4", "lz4"}, {".gz", "gzip"}, {".xz", "xz"}, {".bz2", "bzip2"}, {".zst", "zstd"}}};
  const char* tool = nullptr;
  for (const auto& [suffix, name] : tools)
    if (path.ends_with(suffix)) tool = name;
  if (tool == nullptr) return read_plain_file(path, sink);

  // A reader that fails after it delivered something can't be replaced by another one.
  bool delivered = false;
  const byte_sink noting = [&](std::string_view piece) {
    delivered = true;
    return sink(piece);
  };
  if (apt && read_command({"/usr/lib/apt/apt-helper", "cat-file", path}, noting)) return true;
  return !delivered && read_command({tool, "-dc", path}, noting);
}

std::string read_whole_file(const std::string& path) {
  std::string text;
  const bool whole = read_file(path, false, [&text](std::string_view piece) {
    text += piece;
    return true;
  });
  if (!whole) throw bad_input(path, 0, "can't be read");
  return text;
}

}  // namespace warpheap::bench
