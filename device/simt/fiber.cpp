#include "fiber.hpp"

#include <cstdint>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0u
#define VALGRIND_STACK_DEREGISTER(id) static_cast<void>(id)
#endif

namespace warpheap::simt::detail {

fiber::~fiber() {
  if (!owns_stack_) return;
  VALGRIND_STACK_DEREGISTER(valgrind_id_);
#ifdef WARPHEAP_SIMT_TSAN
  __tsan_destroy_fiber(tsan_);
#endif
}

void fiber::adopt_thread() {
#ifdef WARPHEAP_SIMT_TSAN
  tsan_ = __tsan_get_current_fiber();
#endif
}

#ifdef WARPHEAP_SIMT_INLINE_SWITCH

void fiber::prepare(stack memory, unsigned colour, void (*entry)()) {
  // 32 colours of two cache lines: together one page, which covers all sets of a first-level cache.
  constexpr std::size_t colour_bytes = 128;
  stack_ = memory;
  owns_stack_ = true;
  valgrind_id_ = VALGRIND_STACK_REGISTER(memory.bottom, memory.bottom + memory.bytes);
  // As the ABI requires at a function's entry, the return address (none, for debuggers) lies 8
  // bytes below a multiple of 16.
  auto* top = reinterpret_cast<std::uintptr_t*>(memory.bottom + memory.bytes
                                                - (colour % 32) * colour_bytes);
  top[-1] = 0;
  *frame_ = {top - 1, nullptr, entry};
}

#else

namespace {
// The fiber that is about to start for the first time on this thread.
constinit thread_local fiber* starting = nullptr;
}  // namespace

void fiber::prepare(stack memory, unsigned, void (*entry)()) {
  stack_ = memory;
  entry_ = entry;
  owns_stack_ = true;
  valgrind_id_ = VALGRIND_STACK_REGISTER(memory.bottom, memory.bottom + memory.bytes);
  context_ = boost::context::detail::make_fcontext(memory.bottom + memory.bytes, memory.bytes,
                                                   &fiber::enter);
#ifdef WARPHEAP_SIMT_TSAN
  tsan_ = __tsan_create_fiber(0);
#endif
  // A first run up to the entry tells it which fiber it is.
  switch_frame unused;
  fiber here(unused);
  here.adopt_thread();
  starting = this;
  here.switch_to(*this);
}

void fiber::enter(boost::context::detail::transfer_t from) {
  fiber& self = *starting;
  self.arrive(from);
  self.switch_to(*static_cast<fiber*>(from.data));
  self.entry_();
}

#endif

}  // namespace warpheap::simt::detail
