// Pairs and batches: a size, touched or not.
#include "bench/host/basic.hpp"

#include "bench/host/tools.hpp"

namespace warpheap::bench::host {
namespace {

constexpr std::size_t sizes[] = {8,    16,   32,   64,   128,   256,   512,
                                 1024, 2048, 4096, 8192, 16384, 32768, 1 << 20};

void touch(void* p, std::size_t n) {
  if (p == nullptr) return;
  auto* bytes = static_cast<volatile unsigned char*>(p);
  for (std::size_t i = 0; i < n; i += 64) bytes[i] = 1;
}

/// Objects of a batch: 1000, but no more than 32 MiB of them.
std::size_t batch_of(std::size_t bytes) {
  return std::min<std::size_t>(1000, (std::size_t{32} << 20) / bytes);
}

/// Outside of the time: as many objects at once, with a mark at both ends that has to last.
void check_objects(std::size_t count, std::size_t bytes) {
  std::vector<object> all(count);
  for (object& o : all) o.make(bytes);
  for (object& o : all) o.drop();
  own_calls.note();
}

}  // namespace

std::vector<measurement> run_pairs(const setting& how) {
  std::vector<measurement> out;
  for (const std::size_t bytes : sizes) {
    const double budget = how.touch ? 2e5 / (1 + static_cast<double>(bytes) / 2048) : 2e5;
    const auto n = static_cast<std::size_t>(std::max(200.0, budget * how.scale));
    out.push_back(medians(bytes, how, n, [&](unsigned) {
      std::size_t nulls = 0;
      for (std::size_t i = 0; i < n; ++i) {
        void* p = opaque(std::malloc(bytes));
        nulls += p == nullptr;
        if (how.touch) touch(p, bytes);
        std::free(p);
      }
      note_calls(n, nulls);
    }));
    check_objects(1, bytes);
  }
  return out;
}

std::vector<measurement> run_batches(const setting& how) {
  std::vector<measurement> out;
  for (const std::size_t bytes : sizes) {
    const std::size_t batch = batch_of(bytes);
    // Less of what takes longer: pages come and go with it, in some allocators.
    const double budget = 100 / (1 + static_cast<double>(bytes) / (how.touch ? 2048 : 8192));
    const auto rounds = static_cast<std::size_t>(std::max(2.0, budget * how.scale));
    std::vector<std::vector<void*>> of_thread(how.threads, std::vector<void*>(batch));
    out.push_back(medians(bytes, how, rounds * batch, [&](unsigned me) {
      std::vector<void*>& all = of_thread[me];
      std::size_t nulls = 0;
      for (std::size_t r = 0; r < rounds; ++r) {
        for (void*& p : all) {
          p = opaque(std::malloc(bytes));
          nulls += p == nullptr;
          if (how.touch) touch(p, bytes);
        }
        for (void* p : all) std::free(p);
      }
      note_calls(rounds * batch, nulls);
    }));
    check_objects(batch, bytes);
  }
  return out;
}

}  // namespace warpheap::bench::host
