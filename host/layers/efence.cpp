#include "host/layers/efence.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>

#include <warpheap/bits.hpp>

#include "host/keep_errno.hpp"
#include "host/layers/fill.hpp"

namespace warpheap {

namespace {

bool protect(std::byte* start, std::size_t bytes, int protection) {
  if (bytes == 0) return true;
  const keep_errno keep;
  return mprotect(start, bytes, protection) == 0;
}

}  // namespace

efence_layer::efence_layer(object_layer* below, layer_reports report, std::size_t budget)
    : delaying_layer(below, budget),
      report_(report),
      page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {}

void* efence_layer::take(const object_request& r) {
  if (r.bytes == 0) return below().take(r);
  const std::size_t natural = r.bytes > 8 ? 16 : 8;
  const std::size_t align = std::max(r.align, natural);
  const std::size_t front = std::max(page_, align);
  const std::size_t data = bits::align_up(r.bytes, page_);
  const std::size_t total = front + data + page_;
  if (data < r.bytes || total < data) return nullptr;
  auto* block = static_cast<std::byte*>(below().take({total, front, r.zeroed, r.kind}));
  if (block == nullptr) return nullptr;
  const std::size_t block_bytes = below().usable_size(block);
  std::byte* const data_end = block + front + data;
  // Down from the guard by the object's size, then down to its alignment.
  const auto start = reinterpret_cast<std::uintptr_t>(data_end - r.bytes) & ~(align - 1);
  auto* p = reinterpret_cast<std::byte*>(start);
  const auto slack = static_cast<std::size_t>(data_end - p) - r.bytes;
  put_fill(p + r.bytes, slack, zone_fill);
  if (track(p, {block, block_bytes, r.bytes, slack}, block) == nullptr) return nullptr;
  const std::byte* const first_page = block + front;
  (void)protect(block, static_cast<std::size_t>(first_page - block), PROT_NONE);
  (void)protect(data_end, static_cast<std::size_t>(block + block_bytes - data_end), PROT_NONE);
  return p;
}

void efence_layer::check(const void* p, const fenced_object& o) {
  const auto* end = static_cast<const std::byte*>(p) + o.bytes;
  if (!has_fill(end, o.slack, zone_fill)) report_(error_kind::write_outside, p);
}

free_status efence_layer::free_live(void* p, const fenced_object& o) {
  check(p, o);
  (void)protect(o.block, o.block_bytes, PROT_NONE);
  hold({o.block, o.block_bytes});
  return free_status::ok;
}

void efence_layer::let_go(const held_back::object& o) {
  // If no mapping is left to make it accessible, the block is lost for good.
  if (protect(static_cast<std::byte*>(o.p), o.bytes, PROT_READ | PROT_WRITE))
    (void)below().free(o.p);
}

void efence_layer::check(const void* p) {
  const auto o = objects_.get(p);
  if (o && o->live) check(p, *o);
}

void efence_layer::forget() {
  // The heap may use the pages again: those of live objects, of objects held back, and, in a fork's
  // child, of objects that a thread which the child does not have was about to hold back or let go.
  objects_.for_each([&](const void*, fenced_object& o) {
    (void)protect(o.block, o.block_bytes, PROT_READ | PROT_WRITE);
  });
  delaying_layer::forget();
}

}  // namespace warpheap
