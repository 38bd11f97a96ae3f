// Relacy, with a longer history of each word than its own; a header for itself because it takes
// longer to parse than all the rest.
#pragma once

#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/times.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <span>
#include <sstream>
#include <stack>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

// Relacy remembers the last three values of a word; a load can then be late by two. Here it may be
// later than that.
#define atomic_history_size atomic_history_size_of_relacy
#include <relacy/base.hpp>
#undef atomic_history_size
namespace rl {
inline constexpr std::size_t atomic_history_size = 8;
}
#include <relacy/relacy.hpp>
// Relacy redefines words of the language and of the library for its users; the core uses them too.
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst
#include <cassert>
