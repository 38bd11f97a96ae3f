// Stands in for common/warpheap/platform.hpp where operations are counted: the same, but everything
// that is compiled with it stands in a namespace of its own, beside what the library was built of.
#pragma once

// -Wpedantic has to let the next line pass.
#pragma GCC system_header
#include_next <warpheap/platform.hpp>

#undef WARPHEAP_BACKEND_NS
#define WARPHEAP_BACKEND_NS on_simt_counted
