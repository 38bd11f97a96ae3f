// The dependency graph of the Debian packages, kept in the heap by kernels.
//
// A vertex has a header and an array of targets in heap memory; the array grows by doubling and
// shrinks by halving, with malloc and free in kernels. One lane owns one source vertex, in the
// build as in a batch of updates, so nothing is locked. After the build and after every batch the
// whole graph is copied out by kernels and compared, edge by edge, with one kept on the host.
#include <algorithm>
#include <cstdio>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/debian_packages.hpp"
#include "bench/device_tools.cuh"
#include "bench/graph_reference.hpp"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

constexpr std::uint32_t first_capacity = 4;

/// The edges of one source, in no order.
struct adjacency {
  std::uint32_t* targets;
  std::uint32_t size;
  std::uint32_t capacity;
};

/// One lane's changes to the adjacency of a vertex that it owns.
class vertex_editor {
 public:
  __device__ vertex_editor(const device_heap& heap, lane_tally& count, adjacency* edges,
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

  const device_heap& heap_;
  lane_tally& count_;
  adjacency* edges_;
  std::uint32_t vertex_;
};

__global__ void build_kernel(device_heap heap, adjacency** vertices, std::uint32_t count,
                             const std::uint32_t* offsets, const std::uint32_t* targets,
                             tally* counts) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count) return;
  lane_tally own(counts);
  auto* edges = static_cast<adjacency*>(own.malloc(heap, sizeof(adjacency), v));
  vertices[v] = edges;
  if (edges == nullptr) return;
  *edges = {nullptr, 0, 0};
  vertex_editor editor(heap, own, edges, v);
  for (std::uint32_t e = offsets[v]; e < offsets[v + 1]; ++e) editor.append(targets[e]);
}

__global__ void update_kernel(device_heap heap, adjacency** vertices, bool inserts,
                              const edge* updates, const std::uint32_t* begins,
                              std::uint32_t sources, tally* counts) {
  const auto s = static_cast<std::uint32_t>(global_thread());
  if (s >= sources) return;
  const std::uint32_t source = updates[begins[s]].source;
  if (vertices[source] == nullptr) return;
  lane_tally own(counts);
  vertex_editor editor(heap, own, vertices[source], source);
  for (std::uint32_t u = begins[s]; u < begins[s + 1]; ++u) {
    if (inserts)
      editor.insert(updates[u].target);
    else
      editor.erase(updates[u].target);
  }
}

__global__ void free_kernel(device_heap heap, adjacency** vertices, std::uint32_t count,
                            tally* counts) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count || vertices[v] == nullptr) return;
  lane_tally own(counts);
  vertex_editor(heap, own, vertices[v], v).destroy();
  vertices[v] = nullptr;
}

__global__ void degrees_kernel(adjacency* const* vertices, std::uint32_t count, adjacency* out) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v < count && vertices[v] != nullptr) out[v] = *vertices[v];
}

__global__ void copy_kernel(const adjacency* headers, const std::uint32_t* offsets,
                            std::uint32_t count, std::uint32_t* out) {
  const auto v = static_cast<std::uint32_t>(global_thread());
  if (v >= count) return;
  for (std::uint32_t i = 0; i < headers[v].size; ++i) out[offsets[v] + i] = headers[v].targets[i];
}

std::string address_text(const void* p) {
  char text[24];
  std::snprintf(text, sizeof text, "%p", p);
  return text;
}

void require_memory(const tally& counts) {
  if (counts.denied != 0)
    throw integrity_error("vertex " + std::to_string(counts.denied_index) + ": expected "
                          + std::to_string(counts.denied_bytes)
                          + " bytes of memory, found a null pointer ("
                          + std::to_string(counts.denied) + " requests denied)");
}

/// The graph in the heap, driven from the host.
class heap_graph {
 public:
  heap_graph(const device_heap& dev, const package_graph& from)
      : dev_(dev),
        names_(from.names),
        count_(static_cast<std::uint32_t>(from.vertices())),
        offsets_(std::span<const std::uint32_t>(from.offsets)),
        targets_(std::span<const std::uint32_t>(from.targets)),
        vertices_(count_),
        headers_(count_),
        counts_(tallies) {}

  /// The next three return the nanoseconds they took.
  double build() {
    return counted([&] {
      launch(blocks_for(count_), block_threads, build_kernel, dev_, vertices_.data(), count_,
             offsets_.data(), targets_.data(), counts_.data());
    });
  }
  double update(const update_batch& batch) {
    const device_array<edge> updates{std::span<const edge>(batch.updates)};
    const device_array<std::uint32_t> begins{std::span<const std::uint32_t>(batch.begins)};
    return counted([&] {
      launch(blocks_for(batch.sources()), block_threads, update_kernel, dev_, vertices_.data(),
             batch.inserts, updates.data(), begins.data(),
             static_cast<std::uint32_t>(batch.sources()), counts_.data());
    });
  }
  double destroy() {
    return counted([&] {
      launch(blocks_for(count_), block_threads, free_kernel, dev_, vertices_.data(), count_,
             counts_.data());
    });
  }
  /// Counts of the latest of them.
  const tally& counts() const { return latest_; }

  /// Throws integrity_error at the first edge that differs.
  void require_equal(const reference_graph& expected, const std::string& when);

 private:
  template <class F>
  double counted(F&& launches) {
    counts_.clear();
    const double ns = time_ns(launches);
    latest_ = total(counts_);
    require_memory(latest_);
    return ns;
  }
  std::string vertex_name(std::uint32_t v) const {
    return "vertex " + std::to_string(v) + " ("
           + (v < names_.size() ? names_[v] : std::string("no such vertex")) + ')';
  }

  device_heap dev_;
  const std::vector<std::string>& names_;
  std::uint32_t count_;
  device_array<std::uint32_t> offsets_;
  device_array<std::uint32_t> targets_;
  device_array<adjacency*> vertices_;
  device_array<adjacency> headers_;
  device_array<tally> counts_;
  tally latest_{};
};

void heap_graph::require_equal(const reference_graph& expected, const std::string& when) {
  launch(blocks_for(count_), block_threads, degrees_kernel, vertices_.data(), count_,
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
  launch(blocks_for(count_), block_threads, copy_kernel, headers_.data(), begins.data(), count_,
         copied.data());
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

struct graph_times {
  timings build{"build"};
  timings insert{"insert"};
  timings erase{"delete"};
  timings focused_insert{"focused_insert"};  // 64 sources only
  timings focused_erase{"focused_delete"};
  timings free{"free"};

  timings& of(const update_batch& batch) {
    if (batch.kind == batch_kind::focused_sources)
      return batch.inserts ? focused_insert : focused_erase;
    return batch.inserts ? insert : erase;
  }
};

result run_graph(const run_context& run) {
  run.step("reads the package lists");
  const package_graph input = load_package_graph({}, run.wanted.quick ? 100'000 : 1'000'000);
  if (input.edges() == 0)
    throw no_input("no packages in /var/lib/apt/lists and /var/lib/dpkg/status");
  const std::size_t updates = 10'000;
  const unsigned rounds = run.wanted.quick ? 1 : 3;

  heap tested(run.heap_of_case());
  heap_graph graph(tested.device(), input);
  graph_times times;
  std::uint64_t mallocs = 0;
  std::uint64_t frees = 0;
  heap_snapshot full;
  std::uint64_t payload = 0;
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    const std::string name = "repetition " + std::to_string(i + 1);
    run.step(name + ": build");
    reference_graph reference(input);
    std::mt19937_64 random(i);
    std::uint64_t malloc_bytes = 0;
    std::uint64_t free_bytes = 0;
    const auto counted = [&] {
      mallocs += graph.counts().mallocs;
      frees += graph.counts().frees;
      malloc_bytes += graph.counts().malloc_bytes;
      free_bytes += graph.counts().free_bytes;
    };
    times.build.add(graph.build(), input.edges());
    counted();
    graph.require_equal(reference, name + ", after the build");
    full = snapshot(tested);
    payload = malloc_bytes - free_bytes;

    for (unsigned round = 0; round < rounds; ++round) {
      for (const auto kind : {batch_kind::random_sources, batch_kind::focused_sources})
        for (const bool inserts : {true, false}) {
          const std::string which =
              name + ", after " + (inserts ? "inserts" : "deletes") + " of round "
              + std::to_string(round + 1)
              + (kind == batch_kind::focused_sources ? ", focused" : ", random");
          run.step(which);
          const update_batch batch = make_batch(reference, inserts, kind, updates, random);
          times.of(batch).add(graph.update(batch), batch.updates.size());
          counted();
          const std::size_t changed = apply(reference, batch);
          if (graph.counts().changes != changed)
            throw integrity_error(which + ": expected " + std::to_string(changed)
                                  + " changed edges, found "
                                  + std::to_string(graph.counts().changes));
          graph.require_equal(reference, which);
        }
    }
    run.step(name + ": free");
    const double free_ns = graph.destroy();
    counted();
    times.free.add(free_ns, graph.counts().frees);
    if (malloc_bytes != free_bytes)
      throw integrity_error(name + ": expected " + std::to_string(malloc_bytes)
                            + " bytes freed, found " + std::to_string(free_bytes));
    require_empty(tested, name + ", after everything was freed");
  }

  result out;
  out.params = {{"packages", std::uint64_t{input.packages}},
                {"vertices", std::uint64_t{input.vertices()}},
                {"edges", std::uint64_t{input.edges()}},
                {"updates_per_batch", std::uint64_t{updates}},
                {"batches", std::uint64_t{4 * rounds}}};
  out.operations = {times.build.finish(),         times.insert.finish(),
                    times.erase.finish(),         times.focused_insert.finish(),
                    times.focused_erase.finish(), times.free.finish()};
  out.heap = usage(full, snapshot(tested), payload, mallocs);
  out.metrics = {{"payload_bytes", payload}, {"mallocs", mallocs}, {"frees", frees}};
  for (const auto& source : input.sources)
    out.metrics.emplace_back("source_" + std::to_string(out.metrics.size() - 2), source);
  return out;
}

const registration registered({"debian-graph",
                               "adjacency lists of the Debian packages: build, update, free",
                               this_backend, 2, run_graph});

}  // namespace
}  // namespace warpheap::bench
