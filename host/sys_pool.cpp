#include "host/sys_pool.hpp"

#include <atomic>
#include <bit>
#include <cstdint>

#include "host/persistentalloc.hpp"

namespace warpheap {

namespace {

constexpr std::size_t pool_chunk_bytes = std::size_t{64} << 10;
constexpr unsigned sizes = std::countr_zero(sys_pool::largest / sys_pool::smallest) + 1;

struct free_block {
  free_block* next;
};

// Constant-initialised and never destroyed: the first use may come before any constructor has run,
// and the last after all destructors.
struct pool_state {
  std::mutex mutex;
  free_block* free[sizes] = {};
  std::byte* chunk = nullptr;  // unused part: [chunk, chunk_end)
  std::byte* chunk_end = nullptr;
  std::atomic<std::size_t> sys{0};  // relaxed: a figure
};
constinit pool_state pool;

unsigned size_index(std::size_t bytes) {
  const std::size_t rounded =
      std::bit_ceil(bytes < sys_pool::smallest ? sys_pool::smallest : bytes);
  return static_cast<unsigned>(std::countr_zero(rounded / sys_pool::smallest));
}

void* take_pages(std::size_t bytes) {
  void* p = sys_reserve(bytes);
  if (p != nullptr) pool.sys.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}

/// Cuts the end of a chunk, too short for the next block, into blocks that fit. The lock is held.
void cut_up_rest() {
  while (pool.chunk != pool.chunk_end) {
    // Blocks lie at multiples of their size, so the lowest set bit of the address says which size
    // fits.
    const auto address = reinterpret_cast<std::uintptr_t>(pool.chunk);
    std::size_t bytes = std::size_t{1} << std::countr_zero(address);
    const auto left = static_cast<std::size_t>(pool.chunk_end - pool.chunk);
    if (bytes > sys_pool::largest) bytes = sys_pool::largest;
    if (bytes > left) bytes = std::bit_floor(left);
    auto* block = reinterpret_cast<free_block*>(pool.chunk);
    block->next = pool.free[size_index(bytes)];
    pool.free[size_index(bytes)] = block;
    pool.chunk += bytes;
  }
}

}  // namespace

void* sys_pool::alloc(std::size_t bytes) noexcept {
  if (bytes > largest) return take_pages(bytes);
  const unsigned i = size_index(bytes);
  const std::size_t size = smallest << i;
  const std::scoped_lock lock(pool.mutex);
  if (free_block* block = pool.free[i]; block != nullptr) {
    pool.free[i] = block->next;
    return block;
  }
  const auto padding =
      static_cast<std::size_t>(-reinterpret_cast<std::uintptr_t>(pool.chunk) & (size - 1));
  if (static_cast<std::size_t>(pool.chunk_end - pool.chunk) < padding + size) {
    cut_up_rest();
    auto* fresh = static_cast<std::byte*>(take_pages(pool_chunk_bytes));
    if (fresh == nullptr) return nullptr;
    pool.chunk = fresh;
    pool.chunk_end = fresh + pool_chunk_bytes;
  } else if (padding != 0) {
    std::byte* const end = pool.chunk_end;
    pool.chunk_end = pool.chunk + padding;
    cut_up_rest();
    pool.chunk_end = end;
  }
  std::byte* p = pool.chunk;
  pool.chunk += size;
  return p;
}

void sys_pool::free(void* p, std::size_t bytes) noexcept {
  if (p == nullptr) return;
  if (bytes > largest) {
    sys_release(p, bytes);
    pool.sys.fetch_sub(bytes, std::memory_order_relaxed);
    return;
  }
  const unsigned i = size_index(bytes);
  auto* block = static_cast<free_block*>(p);
  const std::scoped_lock lock(pool.mutex);
  block->next = pool.free[i];
  pool.free[i] = block;
}

std::size_t sys_pool::sys_bytes() noexcept { return pool.sys.load(std::memory_order_relaxed); }

void sys_pool::lock() noexcept { pool.mutex.lock(); }
void sys_pool::unlock() noexcept { pool.mutex.unlock(); }

}  // namespace warpheap
