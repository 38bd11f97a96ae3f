// How one lane of the SIMT executor hands its OS thread to another. Part of simt_words.hpp.
//
// On x86-64 it is a few instructions, compiled into the kernel at each place where a lane can wait.
// Elsewhere, and under the sanitizers, which must be told of the switch, the executor does it out
// of line with Boost.Context (device/simt/fiber.hpp).
//
// Measured for a collective of 32 lanes at 2.8 GHz: 1500 ns with Boost 1.74, 560 to 1100 with these
// instructions in the executor's library, 500 with them in the kernel. Most of the difference is
// the processor's return predictor: a function called by one lane that returns into another is
// mispredicted at every level. Inlined, the switch is one indirect jump between two places in the
// kernel, nearly always the same two.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define WARPHEAP_SIMT_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define WARPHEAP_SIMT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WARPHEAP_SIMT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WARPHEAP_SIMT_TSAN 1
#endif
#endif

#if defined(__x86_64__) && !defined(WARPHEAP_SIMT_ASAN) && !defined(WARPHEAP_SIMT_TSAN)
#define WARPHEAP_SIMT_INLINE_SWITCH 1
#endif

#ifdef WARPHEAP_SIMT_TSAN
#define WARPHEAP_SIMT_UNTRACED __attribute__((no_sanitize("thread"), noinline))
#else
#define WARPHEAP_SIMT_UNTRACED
#endif

namespace warpheap::simt::detail {

/// Where a suspended context continues.
struct switch_frame {
  void* stack_pointer = nullptr;
  void* frame_pointer = nullptr;
  void (*resume)() = nullptr;
};

#ifdef WARPHEAP_SIMT_INLINE_SWITCH
/// Suspends the running context into `from` and continues with `to`.
inline __attribute__((always_inline)) void switch_stacks(switch_frame* from, switch_frame* to) {
  // The compiler saves those of the clobbered registers that it needs; it cannot do so for rsp and
  // rbp. Nothing is pushed, as there may be a red zone.
  asm volatile(
      "movq %%rsp, (%%rdi)\n\t"
      "movq %%rbp, 8(%%rdi)\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rax, 16(%%rdi)\n\t"
      "movq (%%rsi), %%rsp\n\t"
      "movq 8(%%rsi), %%rbp\n\t"
      "jmp *16(%%rsi)\n"
      "1:\n\t"
      "endbr64"
      : "+D"(from), "+S"(to)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15",
#ifdef __AVX512F__
        "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6",
        "k7",
#endif
        "memory", "cc");
}
#endif

}  // namespace warpheap::simt::detail
