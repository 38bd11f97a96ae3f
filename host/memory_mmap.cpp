// Memory of the SIMT backend: everything is anonymous mmap, zero until touched.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <warpheap/backend.hpp>

#include "host/arena_hints.hpp"
#include "host/os_page.hpp"

namespace warpheap {
namespace {

constexpr int usable = PROT_READ | PROT_WRITE;

void* map_memory(std::size_t bytes, int protection, void* at = nullptr) {
  // NORESERVE: metadata and pages are sized for the whole reservation, and come into use as it
  // fills.
  void* p = mmap(at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

/// Maps at the first hint where nothing is mapped. nullptr: at none; `full`: the system has no room
/// at all.
std::byte* map_at_hint(std::size_t bytes, bool& full) {
  void* p = nullptr;
  const bool found = arena_hints::find([&](void* wanted) {
    p = map_memory(bytes, PROT_NONE, wanted);
    full = p == nullptr;
    if (full || p == wanted) return true;
    munmap(p, bytes);
    return false;
  });
  return found ? static_cast<std::byte*>(p) : nullptr;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

class mmap_memory final : public memory_backend {
 public:
  mmap_memory() : os_page_(os_page_size()) {}

  backend_kind kind() const override { return backend_kind::simt; }

  std::string device_name() const override {
    return cpu_name() + ", " + std::to_string(std::thread::hardware_concurrency()) + " threads";
  }

  std::size_t max_reserve() const override {
    // More than the machine's memory could be reserved, and would end in the out-of-memory killer.
    return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * os_page_;
  }

  std::byte* reserve(std::size_t bytes) override {
    bool full = false;
    if (std::byte* at_hint = map_at_hint(bytes, full); at_hint != nullptr || full) return at_hint;
    auto* p = static_cast<std::byte*>(map_memory(bytes + chunk_bytes, PROT_NONE));
    if (p == nullptr) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const std::size_t head = bits::align_up(address, chunk_bytes) - address;
    if (head != 0) munmap(p, head);
    if (head != chunk_bytes) munmap(p + head + bytes, chunk_bytes - head);
    return p + head;
  }
  bool map(std::byte* address, std::size_t bytes) noexcept override {
    return mprotect(address, bytes, usable) == 0;
  }
  void release(std::byte* base, std::size_t bytes) noexcept override { munmap(base, bytes); }

  bool can_discard() const override { return page_size % os_page_ == 0; }
  bool discard(std::byte* address, std::size_t bytes) noexcept override {
    return madvise(address, bytes, MADV_DONTNEED) == 0;
  }
  bool forbid(std::byte* address, std::size_t bytes, bool touch) noexcept override {
    return mprotect(address, bytes, touch ? PROT_NONE : usable) == 0;
  }
  void advise(std::byte*, std::size_t, memory_side) noexcept override {}
  bool dirty_after_discard() const override { return false; }

  void* allocate_device(std::size_t bytes) override { return map_memory(bytes, usable); }
  void free_device(void* p, std::size_t bytes) noexcept override { munmap(p, bytes); }
  void* allocate_pinned(std::size_t bytes) override { return map_memory(bytes, usable); }
  void free_pinned(void* p, std::size_t bytes) noexcept override { munmap(p, bytes); }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    std::memcpy(host, device, bytes);
  }

  unsigned warp_slots() const override {
    // A worker thread of the executor has up to 32 warps at a time.
    return 32 * std::max(2u, std::thread::hardware_concurrency());
  }
  std::uint64_t default_refill_timeout_ns() const override { return 2'000'000'000; }

 private:
  const std::size_t os_page_;
};

}  // namespace

std::unique_ptr<memory_backend> make_mmap_memory() { return std::make_unique<mmap_memory>(); }

}  // namespace warpheap
