// What a test notes down of its own accord, without synchronisation and without need of any.
#pragma once

#include "device/simt/annotate.hpp"

namespace warpheap::testing {

/// As long as it lives, ThreadSanitizer does not watch this thread or lane. In an exploration lanes
/// take turns on one thread; a lock would hide the races that are looked for.
using unwatched = simt::detail::quiet_scope;

}  // namespace warpheap::testing
