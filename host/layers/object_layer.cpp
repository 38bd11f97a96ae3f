#include "host/layers/object_layer.hpp"

#include <cstring>

#include <warpheap/bits.hpp>

namespace warpheap {

void* heap_layer::take(const object_request& r) {
  if (r.align <= 1) {
    return r.zeroed ? heap_.calloc(1, r.bytes, r.kind) : heap_.malloc(r.bytes, r.kind);
  }
  void* p = heap_.aligned_alloc(r.align, r.bytes, r.kind);
  if (p != nullptr && r.zeroed && r.bytes != 0) std::memset(p, 0, r.bytes);
  return p;
}

void* layer_malloc(object_layer& top, std::size_t n, contents kind) {
  return top.take({n, 1, false, kind});
}

void* layer_calloc(object_layer& top, std::size_t count, std::size_t size, contents kind) {
  if (bits::mul_overflows(count, size)) return nullptr;
  return top.take({count * size, 1, true, kind});
}

void* layer_aligned_alloc(object_layer& top, std::size_t align, std::size_t n, contents kind) {
  if (!bits::is_power_of_two(align)) return nullptr;
  return top.take({n, align, false, kind});
}

}  // namespace warpheap
