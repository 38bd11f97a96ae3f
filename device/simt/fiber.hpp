// One execution context. The switch is that of <warpheap/simt_switch.hpp> where available, else
// Boost.Context's plus the sanitizers' annotations, as Debian's Boost is built without them.
#pragma once

#include "annotate.hpp"
#include "stack_pool.hpp"

#ifndef WARPHEAP_SIMT_INLINE_SWITCH
#include <boost/context/detail/fcontext.hpp>
#endif
#ifdef WARPHEAP_SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace warpheap::simt::detail {

class fiber {
 public:
  /// `frame` is where the inline switch looks for it.
  explicit fiber(switch_frame& frame) : frame_(&frame) {}
  ~fiber();
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  /// Adopts the calling thread's context, before it switches to other fibers.
  void adopt_thread();
  /// Makes the first switch to this fiber call `entry`, which never returns. `colour` shifts the
  /// top of the stack so that the stacks of a warp's lanes do not compete for the same cache sets.
  void prepare(stack memory, unsigned colour, void (*entry)());

  /// Switches from this fiber, which is running, to `next`; returns when another fiber switches
  /// back.
  WARPHEAP_SIMT_UNTRACED void switch_to(fiber& next) {
#ifdef WARPHEAP_SIMT_INLINE_SWITCH
    switch_stacks(frame_, next.frame_);
#else
    leave(next);
    arrive(boost::context::detail::jump_fcontext(next.context_, this));
#endif
  }

 private:
#ifndef WARPHEAP_SIMT_INLINE_SWITCH
  WARPHEAP_SIMT_UNTRACED static void enter(boost::context::detail::transfer_t from);

  WARPHEAP_SIMT_UNTRACED void leave([[maybe_unused]] fiber& next) {
#ifdef WARPHEAP_SIMT_ASAN
    __sanitizer_start_switch_fiber(&fake_stack_, next.stack_.bottom, next.stack_.bytes);
#endif
#ifdef WARPHEAP_SIMT_TSAN
    __tsan_switch_to_fiber(next.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
  }
  WARPHEAP_SIMT_UNTRACED void arrive(boost::context::detail::transfer_t from) {
    auto& before = *static_cast<fiber*>(from.data);
    before.context_ = from.fctx;
#ifdef WARPHEAP_SIMT_ASAN
    // Receives the bounds of the previous fiber's stack: unknown until now if it is a thread's own.
    const void* bottom = nullptr;
    __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &before.stack_.bytes);
    before.stack_.bottom = static_cast<std::byte*>(const_cast<void*>(bottom));
#endif
  }

  boost::context::detail::fcontext_t context_ = nullptr;
  void (*entry_)() = nullptr;
#endif
#ifdef WARPHEAP_SIMT_ASAN
  void* fake_stack_ = nullptr;
#endif
#ifdef WARPHEAP_SIMT_TSAN
  void* tsan_ = nullptr;
#endif
  [[maybe_unused]] switch_frame* frame_;
  stack stack_;
  unsigned valgrind_id_ = 0;
  bool owns_stack_ = false;
};

}  // namespace warpheap::simt::detail
