// Graphs kept in the memory of an allocator by kernels.
//
// A vertex has a header and an array of targets; the array grows by doubling and shrinks by
// halving, with malloc and free in kernels. One lane owns one source vertex, in the build as in a
// batch of updates, so nothing is locked. The whole graph can be copied out by kernels and
// compared, edge by edge, with one kept on the host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/device_tools.cuh"
#include "bench/graph_reference.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

inline constexpr std::uint32_t first_capacity = 4;

/// The edges of one source, in no order.
struct adjacency {
  std::uint32_t* targets;
  std::uint32_t size;
  std::uint32_t capacity;
};

/// One lane's changes to the adjacency of a vertex that it owns. Handle: an allocator in kernels.
template <class Handle>
class vertex_editor {
 public:
  __device__ vertex_editor(const Handle& heap, lane_tally& count, adjacency* edges,
                           std::uint32_t vertex)
      : heap_(heap), count_(count), edges_(edges), vertex_(vertex) {}

  __device__ void append(std::uint32_t target) {
    if (edges_->size == edges_->capacity
        && !resize(edges_->capacity == 0 ? first_capacity : 2 * edges_->capacity))
      return;
    edges_->targets[edges_->size++] = target;
    count_.change();
  }
  __device__ void insert(std::uint32_t target) {
    if (find(target) == edges_->size) append(target);
  }
  __device__ void erase(std::uint32_t target) {
    const std::uint32_t at = find(target);
    if (at == edges_->size) return;
    edges_->targets[at] = edges_->targets[--edges_->size];
    count_.change();
    if (edges_->size == 0)
      drop();
    else if (edges_->capacity > first_capacity && edges_->size <= edges_->capacity / 4)
      resize(edges_->capacity / 2);
  }
  /// All edges once more.
  __device__ void repeat() {
    const std::uint32_t size = edges_->size;
    if (size == 0 || (edges_->capacity < 2 * size && !resize(2 * size))) return;
    for (std::uint32_t i = 0; i < size; ++i) edges_->targets[size + i] = edges_->targets[i];
    edges_->size = 2 * size;
    count_.change();
  }
  /// Frees the array and the header.
  __device__ void destroy() {
    drop();
    count_.free(heap_, edges_, sizeof(adjacency));
  }

 private:
  __device__ std::uint32_t find(std::uint32_t target) const {
    std::uint32_t at = 0;
    while (at < edges_->size && edges_->targets[at] != target) ++at;
    return at;
  }
  __device__ bool resize(std::uint32_t capacity) {
    auto* targets = static_cast<std::uint32_t*>(
        count_.malloc(heap_, capacity * sizeof(std::uint32_t), vertex_));
    if (targets == nullptr) return false;
    const std::uint32_t size = edges_->size;
    for (std::uint32_t i = 0; i < size; ++i) targets[i] = edges_->targets[i];
    drop();
    *edges_ = {targets, size, capacity};
    return true;
  }
  __device__ void drop() {
    if (edges_->capacity != 0)
      count_.free(heap_, edges_->targets, edges_->capacity * sizeof(std::uint32_t));
    *edges_ = {nullptr, 0, 0};
  }

  const Handle& heap_;
  lane_tally& count_;
  adjacency* edges_;
  std::uint32_t vertex_;
};

template <class Handle>
__global__ void build_kernel(Handle heap, adjacency** vertices, std::uint32_t count,
                             const std::uint32_t* offsets, const std::uint32_t* targets,
                             tally* counts) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count) return;
  lane_tally own(counts);
  auto* edges = static_cast<adjacency*>(own.malloc(heap, sizeof(adjacency), v));
  vertices[v] = edges;
  if (edges == nullptr) return;
  *edges = {nullptr, 0, 0};
  vertex_editor<Handle> editor(heap, own, edges, v);
  for (std::uint32_t e = offsets[v]; e < offsets[v + 1]; ++e) editor.append(targets[e]);
}

template <class Handle>
__global__ void update_kernel(Handle heap, adjacency** vertices, bool inserts, const edge* updates,
                              const std::uint32_t* begins, std::uint32_t sources, tally* counts) {
  const auto s = static_cast<std::uint32_t>(global_thread());
  if (s >= sources) return;
  const std::uint32_t source = updates[begins[s]].source;
  if (vertices[source] == nullptr) return;
  lane_tally own(counts);
  vertex_editor<Handle> editor(heap, own, vertices[source], source);
  for (std::uint32_t u = begins[s]; u < begins[s + 1]; ++u) {
    if (inserts)
      editor.insert(updates[u].target);
    else
      editor.erase(updates[u].target);
  }
}

template <class Handle>
__global__ void free_graph_kernel(Handle heap, adjacency** vertices, std::uint32_t count,
                                  tally* counts) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count || vertices[v] == nullptr) return;
  lane_tally own(counts);
  vertex_editor<Handle>(heap, own, vertices[v], v).destroy();
  vertices[v] = nullptr;
}

/// Doubles the degree of every vertex: its edges, and then the same once more.
template <class Handle>
__global__ void expand_kernel(Handle heap, adjacency** vertices, std::uint32_t count,
                              tally* counts) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count || vertices[v] == nullptr) return;
  lane_tally own(counts);
  vertex_editor<Handle>(heap, own, vertices[v], v).repeat();
}

/// Counts the targets that are not those of the rows, repeated as often as they fit.
template <class Index>
__global__ void compare_repeated_kernel(adjacency* const* vertices, Index count,
                                        const std::uint32_t* offsets, const std::uint32_t* targets,
                                        std::uint32_t times, unsigned long long* wrong) {
  const auto v = static_cast<Index>(global_thread());
  if (v >= count) return;
  const std::uint32_t degree = offsets[v + 1] - offsets[v];
  unsigned long long found = vertices[v]->size == degree * times ? 0 : 1;
  for (std::uint32_t i = 0; found == 0 && i < vertices[v]->size; ++i)
    if (vertices[v]->targets[i] != targets[offsets[v] + i % degree]) ++found;
  if (found != 0) atomicAdd(wrong, found);
}

template <class Index>
__global__ void degrees_kernel(adjacency* const* vertices, Index count, adjacency* out) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v < count && vertices[v] != nullptr) out[v] = *vertices[v];
}

template <class Index>
__global__ void copy_kernel(const adjacency* headers, const std::uint32_t* offsets, Index count,
                            std::uint32_t* out) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count) return;
  for (std::uint32_t i = 0; i < headers[v].size; ++i) out[offsets[v] + i] = headers[v].targets[i];
}

inline std::string address_text(const void* p) {
  char text[24];
  std::snprintf(text, sizeof text, "%p", p);
  return text;
}

/// Counts what a kernel asked for; throws integrity_error if it was refused some of it.
inline void count_calls(const run_context& run, const tally& counts) {
  run.count(counts.mallocs + counts.denied, counts.denied);
  if (counts.denied != 0)
    throw integrity_error("vertex " + std::to_string(counts.denied_index) + ": expected "
                          + std::to_string(counts.denied_bytes)
                          + " bytes of memory, found a null pointer ("
                          + std::to_string(counts.denied) + " requests denied)");
}

/// The graph in memory of an allocator, driven from the host. `run` and `from` outlive it.
template <class Handle>
class heap_graph {
 public:
  heap_graph(const run_context& run, const Handle& dev, const graph_rows& from)
      : run_(run),
        dev_(dev),
        names_(from.names),
        count_(static_cast<std::uint32_t>(from.vertices())),
        offsets_(std::span<const std::uint32_t>(from.offsets)),
        targets_(std::span<const std::uint32_t>(from.targets)),
        vertices_(count_),
        headers_(count_),
        counts_(tallies) {}

  /// The next four return the nanoseconds they took.
  elapsed build() {
    return counted([&] {
      launch(blocks_for(count_), block_threads, build_kernel<Handle>, dev_, vertices_.data(),
             count_, offsets_.data(), targets_.data(), counts_.data());
    });
  }
  elapsed update(const update_batch& batch) {
    const device_array<edge> updates{std::span<const edge>(batch.updates)};
    const device_array<std::uint32_t> begins{std::span<const std::uint32_t>(batch.begins)};
    return counted([&] {
      launch(blocks_for(batch.sources()), block_threads, update_kernel<Handle>, dev_,
             vertices_.data(), batch.inserts, updates.data(), begins.data(),
             static_cast<std::uint32_t>(batch.sources()), counts_.data());
    });
  }
  elapsed destroy() {
    return counted([&] {
      launch(blocks_for(count_), block_threads, free_graph_kernel<Handle>, dev_, vertices_.data(),
             count_, counts_.data());
    });
  }
  /// Doubles every degree.
  elapsed expand() {
    return counted([&] {
      launch(blocks_for(count_), block_threads, expand_kernel<Handle>, dev_, vertices_.data(),
             count_, counts_.data());
    });
  }
  /// Throws integrity_error unless every row stands there `times` times.
  void require_repeated(std::uint32_t times) {
    const device_array<unsigned long long> wrong(1);
    launch(blocks_for(count_), block_threads, compare_repeated_kernel<std::uint32_t>,
           vertices_.data(), count_, offsets_.data(), targets_.data(), times, wrong.data());
    synchronize();
    if (const auto found = wrong.to_host().front(); found != 0)
      throw integrity_error("the graph, expanded " + std::to_string(times)
                            + " times: expected every edge as often, found " + std::to_string(found)
                            + " that are not");
  }
  /// Counts of the latest of them.
  const tally& counts() const { return latest_; }

  /// Throws integrity_error at the first edge that differs.
  void require_equal(const reference_graph& expected, const std::string& when);

 private:
  template <class F>
  elapsed counted(F&& launches) {
    counts_.clear();
    const elapsed time = time_of(launches);
    latest_ = total(counts_);
    count_calls(run_, latest_);
    return time;
  }
  std::string vertex_name(std::uint32_t v) const {
    const std::string number = "vertex " + std::to_string(v);
    if (v >= count_) return number + " (no such vertex)";
    return v < names_.size() ? number + " (" + names_[v] + ')' : number;
  }

  const run_context& run_;
  Handle dev_;
  const std::vector<std::string>& names_;
  std::uint32_t count_;
  device_array<std::uint32_t> offsets_;
  device_array<std::uint32_t> targets_;
  device_array<adjacency*> vertices_;
  device_array<adjacency> headers_;
  device_array<tally> counts_;
  tally latest_{};
};

template <class Handle>
void heap_graph<Handle>::require_equal(const reference_graph& expected, const std::string& when) {
  launch(blocks_for(count_), block_threads, degrees_kernel<std::uint32_t>, vertices_.data(), count_,
         headers_.data());
  synchronize();
  const std::vector<adjacency*> where = vertices_.to_host();
  const std::vector<adjacency> headers = headers_.to_host();
  std::vector<std::uint32_t> offsets(count_);
  std::uint32_t edges = 0;
  const auto object = [&](std::uint32_t v) {
    return when + ": adjacency of " + vertex_name(v) + " at " + address_text(where[v]);
  };
  for (std::uint32_t v = 0; v < count_; ++v) {
    if (reinterpret_cast<std::uintptr_t>(where[v]) % alignof(adjacency) != 0
        || reinterpret_cast<std::uintptr_t>(headers[v].targets) % alignof(std::uint32_t) != 0)
      throw integrity_error(object(v) + ", targets at " + address_text(headers[v].targets)
                            + ": expected addresses divisible by "
                            + std::to_string(alignof(adjacency)) + " and "
                            + std::to_string(alignof(std::uint32_t)));
    offsets[v] = edges;
    // Before an array is read its size must be believable.
    const std::size_t degree = expected.row(v).size();
    if (headers[v].size != degree)
      throw integrity_error(object(v) + ": expected " + std::to_string(degree) + " edges, found "
                            + std::to_string(headers[v].size));
    edges += headers[v].size;
  }
  const device_array<std::uint32_t> begins{std::span<const std::uint32_t>(offsets)};
  const device_array<std::uint32_t> copied(edges);
  launch(blocks_for(count_), block_threads, copy_kernel<std::uint32_t>, headers_.data(),
         begins.data(), count_, copied.data());
  synchronize();
  std::vector<std::uint32_t> targets = copied.to_host();
  for (std::uint32_t v = 0; v < count_; ++v) {
    const auto begin = targets.begin() + offsets[v];
    std::sort(begin, begin + headers[v].size);
    const auto& row = expected.row(v);
    const auto [want, got] = std::mismatch(row.begin(), row.end(), begin);
    if (want != row.end())
      throw integrity_error(object(v) + ": expected an edge to " + vertex_name(*want) + ", found "
                            + vertex_name(*got));
  }
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
