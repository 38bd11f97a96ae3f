// Objects of every allocator under test: how large they are, what is written into them, and what is
// found wrong with them.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

#include "bench/device_tools.cuh"
#include "bench/registry.hpp"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

WARPHEAP_HD constexpr std::uint64_t mixed(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

/// Sizes of the objects: all the same, or uniform in a range. Addresses are to be multiples of the
/// largest power of two in the size, up to `aligned_to`.
struct size_plan {
  std::uint32_t least;
  std::uint32_t most;
  std::uint32_t aligned_to = 128;

  WARPHEAP_HD std::uint32_t size(std::uint64_t index) const {
    return least == most ? least
                         : least + static_cast<std::uint32_t>(mixed(index) % (most - least + 1));
  }
  WARPHEAP_HD std::uint32_t alignment(std::uint32_t bytes) const {
    const std::uint32_t low_bit = bytes & (0u - bytes);
    return bytes == low_bit ? (low_bit < aligned_to ? low_bit : aligned_to)
           : low_bit < 8    ? low_bit
                            : 8;
  }
};

enum class fault_kind : std::uint32_t { none, misaligned, content };

/// The first object found wrong, and how many there are.
struct fault {
  unsigned long long nulls;  // objects that are not there
  unsigned long long count;
  unsigned long long index;
  unsigned long long address;
  unsigned long long expected;
  unsigned long long found;
  std::uint32_t offset;
  std::uint32_t bytes;
  fault_kind kind;

  __device__ void report(fault_kind what, std::uint64_t i, const void* p, std::uint32_t size,
                         std::uint32_t at, std::uint64_t wanted, std::uint64_t got) {
    if (atomicAdd(&count, 1ull) != 0) return;
    index = i;
    address = reinterpret_cast<std::uintptr_t>(p);
    expected = wanted;
    found = got;
    offset = at;
    bytes = size;
    kind = what;
  }
};

/// What stands at `offset` of an object: depends on its number and on where it lies, so that two
/// objects which overlap can't both be right.
struct pattern {
  std::uint64_t seed;
  __device__ pattern(std::uint64_t index, const void* p)
      : seed(mixed(index ^ reinterpret_cast<std::uintptr_t>(p) * 0x9e3779b97f4a7c15u)) {}
  template <class Word>
  __device__ Word at(std::uint32_t offset) const {
    return static_cast<Word>((seed + offset * 0x9e3779b97f4a7c15u) >> (64 - 8 * sizeof(Word)));
  }
};

template <class Word>
__device__ inline void write_words(void* p, std::uint32_t size, pattern content) {
  for (std::uint32_t at = 0; at < size; at += sizeof(Word))
    *reinterpret_cast<Word*>(static_cast<char*>(p) + at) = content.at<Word>(at);
}

template <class Word>
__device__ inline void verify_words(const void* p, std::uint32_t size, pattern content,
                                    std::uint64_t i, fault* first) {
  for (std::uint32_t at = 0; at < size; at += sizeof(Word)) {
    const Word found = *reinterpret_cast<const Word*>(static_cast<const char*>(p) + at);
    if (found != content.at<Word>(at)) {
      first->report(fault_kind::content, i, p, size, at, content.at<Word>(at), found);
      return;
    }
  }
}

template <class Plan>
__device__ void write_object(void* p, Plan plan, std::uint64_t i) {
  const std::uint32_t size = plan.size(i);
  const std::uint32_t alignment = plan.alignment(size);
  const pattern content(i, p);
  if (alignment >= 8)
    write_words<std::uint64_t>(p, size, content);
  else if (alignment == 4)
    write_words<std::uint32_t>(p, size, content);
  else
    write_words<std::uint8_t>(p, size, content);
}

template <class Plan>
__device__ void verify_object(const void* p, Plan plan, std::uint64_t i, fault* first) {
  const std::uint32_t size = plan.size(i);
  const std::uint32_t alignment = plan.alignment(size);
  const pattern content(i, p);
  if (alignment >= 8)
    verify_words<std::uint64_t>(p, size, content, i, first);
  else if (alignment == 4)
    verify_words<std::uint32_t>(p, size, content, i, first);
  else
    verify_words<std::uint8_t>(p, size, content, i, first);
}

/// False, and noted, for an object that must not be written.
template <class Plan>
__device__ bool usable_object(const void* p, Plan plan, std::uint64_t i, fault* first) {
  const std::uint32_t size = plan.size(i);
  if (p == nullptr) {
    atomicAdd(&first->nulls, 1ull);
    return false;
  }
  const std::uint32_t alignment = plan.alignment(size);
  const auto rest = reinterpret_cast<std::uintptr_t>(p) % alignment;
  if (rest != 0) first->report(fault_kind::misaligned, i, p, size, 0, alignment, rest);
  return rest == 0;
}

template <class Plan>
__global__ void write_kernel(void** objects, std::size_t count, Plan plan, fault* first) {
  const std::size_t i = global_thread();
  if (i < count && usable_object(objects[i], plan, i, first)) write_object(objects[i], plan, i);
}

template <class Plan>
__global__ void verify_kernel(void** objects, std::size_t count, Plan plan, fault* first) {
  const std::size_t i = global_thread();
  if (i < count && objects[i] != nullptr) verify_object(objects[i], plan, i, first);
}

inline std::string in_hex(unsigned long long value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", value);
  return text.data();
}

inline void require_sound(const device_array<fault>& faults) {
  const fault first = faults.to_host().front();
  if (first.count == 0) return;
  const std::string object = "object " + std::to_string(first.index) + " of "
                             + std::to_string(first.bytes) + " bytes at " + in_hex(first.address);
  std::string text;
  switch (first.kind) {
    case fault_kind::misaligned:
      text = object + ": expected an address divisible by " + std::to_string(first.expected)
             + ", found a remainder of " + std::to_string(first.found);
      break;
    default:
      text = object + ", offset " + std::to_string(first.offset) + ": expected "
             + in_hex(first.expected) + ", found " + in_hex(first.found);
  }
  if (first.count > 1) text += " (and " + std::to_string(first.count - 1) + " more objects)";
  throw integrity_error(text);
}

inline fields plan_params(size_plan plan) {
  if (plan.least == plan.most) return {{"size_bytes", std::uint64_t{plan.least}}};
  return {{"min_size_bytes", std::uint64_t{plan.least}},
          {"max_size_bytes", std::uint64_t{plan.most}}};
}

inline std::uint64_t payload_of(size_plan plan, std::size_t count) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) bytes += plan.size(i);
  return bytes;
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
