#pragma once

#include <memory>
#include <string>
#include <warpheap/backend.hpp>

#include "host/mheap.hpp"

namespace warpheap {

#if defined(WARPHEAP_HAS_SIMT) || defined(WARPHEAP_HAS_CUDA)
inline constexpr bool have_kernels = true;
#else
inline constexpr bool have_kernels = false;
#endif

struct chosen_backend {
  std::unique_ptr<memory_backend> memory;
  std::string reason;  ///< why this one was chosen, for people
};

/// The requested backend; for `automatic`, CUDA where it can be used. Throws heap_error.
chosen_backend choose_backend(backend_kind asked);

/// Null in a build without kernels for this backend.
std::unique_ptr<device_operations> make_operations(backend_kind kind, const heap_view& view);

/// How the host's allocator gives memory back to a backend, which must outlive the source.
page_source source_of(memory_backend& memory);

}  // namespace warpheap
