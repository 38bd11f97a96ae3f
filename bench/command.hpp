// Reading files that may be compressed, through the tools a Debian system has.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace warpheap::bench {

/// Receives the next piece of a stream; returns false to stop reading.
using byte_sink = std::function<bool(std::string_view)>;

/// Runs `arguments` (found through PATH, no shell) with its standard error discarded and gives its
/// standard output to `sink` piece by piece. Returns true if the program ended with status 0, or if
/// the sink stopped it early; false if it could not be started or failed.
bool read_command(const std::vector<std::string>& arguments, const byte_sink& sink);

/// The same for a plain file.
bool read_plain_file(const std::string& path, const byte_sink& sink);

/// Reads `path`, decompressed according to its name (.lz4 .gz .xz .bz2 .zst); tries apt's own
/// helper first where `apt` is set. Returns false if nothing could read it.
bool read_file(const std::string& path, bool apt, const byte_sink& sink);

/// All of `path`, decompressed in the same way. Throws bad_input if nothing could read it.
std::string read_whole_file(const std::string& path);

}  // namespace warpheap::bench
