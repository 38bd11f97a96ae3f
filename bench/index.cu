// An inverted index of real text: a hash map in heap memory whose nodes and posting lists are
// allocated by kernels, read on the host through the same pointers, and freed half by the host and
// half by a kernel.
//
// Any number of lanes insert at once without locks: a node is pushed on its bucket's list by
// compare-and-swap; a posting takes the next place of the node's newest block by an atomic add, and
// whoever finds that block full pushes a new one. A lane that loses a race frees what it allocated.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <string_view>

#include <warpheap/atomic.hpp>
#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/registry.hpp"
#include "bench/text_corpus.hpp"
#include "bench/text_index_reference.hpp"

namespace warpheap::bench {
namespace {

constexpr std::uint32_t piece_bytes = 256;
constexpr std::uint32_t first_block_capacity = 2;
constexpr std::uint32_t last_block_capacity = 128;

/// Places of a word; `capacity` postings follow it in memory.
struct posting_block {
  posting_block* next;  // older
  std::uint32_t used;   // places taken; may exceed the capacity by the lanes that came too late
  std::uint32_t capacity;

  WARPHEAP_HD static std::size_t bytes(std::uint32_t capacity) {
    return sizeof(posting_block) + capacity * sizeof(posting);
  }
  WARPHEAP_HD posting* entries() { return reinterpret_cast<posting*>(this + 1); }
  WARPHEAP_HD std::uint32_t filled() const { return used < capacity ? used : capacity; }
};

/// A word of the map; its characters, in lower case, follow it in memory.
struct word_node {
  word_node* next;
  posting_block* blocks;  // newest first
  std::uint32_t hash;
  std::uint32_t length;

  WARPHEAP_HD static std::size_t bytes(std::uint32_t length) { return sizeof(word_node) + length; }
  WARPHEAP_HD char* characters() { return reinterpret_cast<char*>(this + 1); }
};

struct hash_map {
  word_node** buckets;
  std::uint32_t mask;

  WARPHEAP_HD word_node** bucket(std::uint32_t hash) const { return buckets + (hash & mask); }
};

__global__ void create_map_kernel(device_heap heap, std::uint32_t buckets, word_node*** out,
                                  tally* counts) {
  if (global_thread() != 0) return;
  lane_tally own(counts);
  *out = static_cast<word_node**>(own.malloc(heap, buckets * sizeof(word_node*), 0));
}

__global__ void clear_map_kernel(hash_map map) {
  const std::size_t i = global_thread();
  if (i <= map.mask) map.buckets[i] = nullptr;
}

/// One lane's view of the map while it inserts.
class inserter {
 public:
  __device__ inserter(const device_heap& heap, hash_map map, tally* counts)
      : heap_(heap), map_(map), count_(counts) {}

  __device__ void insert(const char* word, std::uint32_t length, posting where) {
    std::uint32_t hash = hash_start;
    for (std::uint32_t i = 0; i < length; ++i) hash = hash_step(hash, folded(word[i]));
    if (word_node* node = find_or_add(word, length, hash, where)) append(node, where);
  }

 private:
  __device__ static bool same(word_node* node, const char* word, std::uint32_t length,
                              std::uint32_t hash) {
    if (node->hash != hash || node->length != length) return false;
    const char* characters = node->characters();
    for (std::uint32_t i = 0; i < length; ++i)
      if (characters[i] != folded(word[i])) return false;
    return true;
  }

  __device__ word_node* find_or_add(const char* word, std::uint32_t length, std::uint32_t hash,
                                    posting where) {
    word_node** bucket = map_.bucket(hash);
    word_node* known = nullptr;  // nodes from here on were compared already
    word_node* added = nullptr;
    for (;;) {
      // Acquire: pairs with the release below, so that the node's content is seen.
      word_node* head = atomic::load<order::acquire>(bucket);
      for (word_node* node = head; node != known; node = node->next)
        if (same(node, word, length, hash)) {
          if (added != nullptr) count_.free(heap_, added, word_node::bytes(length));
          return node;
        }
      if (added == nullptr) {
        added =
            static_cast<word_node*>(count_.malloc(heap_, word_node::bytes(length), where.offset));
        if (added == nullptr) return nullptr;
        added->blocks = nullptr;
        added->hash = hash;
        added->length = length;
        for (std::uint32_t i = 0; i < length; ++i) added->characters()[i] = folded(word[i]);
      }
      added->next = head;
      known = head;
      // Release: publishes the node. A failure means that another lane's push succeeded.
      if (atomic::compare_exchange<order::release>(bucket, head, added)) return added;
    }
  }

  __device__ void append(word_node* node, posting where) {
    for (;;) {
      // Acquire: pairs with the release below, so that the block's capacity is seen.
      posting_block* newest = atomic::load<order::acquire>(&node->blocks);
      std::uint32_t capacity = first_block_capacity;
      if (newest != nullptr) {
        // Relaxed: a place has one owner, and is read only after the kernel.
        const auto place = atomic::fetch_add<order::relaxed>(&newest->used, std::uint32_t{1});
        if (place < newest->capacity) {
          newest->entries()[place] = where;
          return;
        }
        capacity =
            newest->capacity < last_block_capacity ? 2 * newest->capacity : last_block_capacity;
      }
      auto* block = static_cast<posting_block*>(
          count_.malloc(heap_, posting_block::bytes(capacity), where.offset));
      if (block == nullptr) return;
      *block = {newest, 1, capacity};
      block->entries()[0] = where;
      if (atomic::compare_exchange<order::release>(&node->blocks, newest, block)) return;
      // Another lane pushed a block in between; there may be room in that one.
      count_.free(heap_, block, posting_block::bytes(capacity));
    }
  }

  const device_heap& heap_;
  hash_map map_;
  lane_tally count_;
};

__global__ void index_kernel(device_heap heap, hash_map map, const char* text,
                             const text_piece* pieces, std::size_t count, tally* counts) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  const text_piece piece = pieces[i];
  inserter words(heap, map, counts);
  std::uint32_t at = piece.begin;
  // A word that began in the piece before belongs to that one.
  if (at > piece.file_begin && is_word_byte(text[at - 1]))
    while (at < piece.end && is_word_byte(text[at])) ++at;
  while (at < piece.end) {
    if (!is_word_byte(text[at])) {
      ++at;
      continue;
    }
    std::uint32_t end = at;
    while (end < piece.file_end && is_word_byte(text[end])) ++end;
    words.insert(text + at, end - at, {piece.file, at - piece.file_begin});
    at = end;
  }
}

/// Frees the content of every second bucket, from bucket 1 on.
__global__ void free_kernel(device_heap heap, hash_map map, tally* counts) {
  const std::size_t i = 2 * global_thread() + 1;
  if (i > map.mask) return;
  lane_tally own(counts);
  for (word_node* node = map.buckets[i]; node != nullptr;) {
    for (posting_block* block = node->blocks; block != nullptr;) {
      posting_block* older = block->next;
      own.free(heap, block, posting_block::bytes(block->capacity));
      block = older;
    }
    word_node* next = node->next;
    own.free(heap, node, word_node::bytes(node->length));
    node = next;
  }
}

std::string address_text(const void* p) {
  char text[24];
  std::snprintf(text, sizeof text, "%p", p);
  return text;
}

std::string place_text(const text_corpus& corpus, posting where) {
  return (where.file < corpus.files() ? corpus.paths[where.file]
                                      : "file number " + std::to_string(where.file))
         + " byte " + std::to_string(where.offset);
}

/// Counts what a kernel asked for; throws integrity_error if it was refused some of it.
void count_index_calls(const run_context& run, const tally& counts) {
  run.count(counts.mallocs + counts.denied, counts.denied);
  if (counts.denied != 0)
    throw integrity_error("word at byte " + std::to_string(counts.denied_index) + ": expected "
                          + std::to_string(counts.denied_bytes)
                          + " bytes of memory, found a null pointer ("
                          + std::to_string(counts.denied) + " requests denied)");
}

/// Walks the map on the host through the pointers that the kernels stored, and compares it word by
/// word and posting by posting.
class map_reader {
 public:
  map_reader(const heap_view& of, hash_map map, const text_corpus& corpus,
             const reference_index& expected)
      : heap_(of), map_(map), corpus_(corpus), expected_(expected) {}

  /// Throws integrity_error at the first difference.
  void require_equal() {
    std::size_t words = 0;
    for (std::uint32_t b = 0; b <= map_.mask; ++b)
      for (word_node* node = map_.buckets[b]; node != nullptr; node = node->next) {
        require_object(node, sizeof(word_node), "node", b);
        require_object(node, word_node::bytes(node->length), "node", b);
        if (++words > expected_.size())
          throw integrity_error("expected " + std::to_string(expected_.size())
                                + " words, found more; the last in bucket " + std::to_string(b)
                                + " at " + address_text(node));
        require_word(node, b);
      }
    if (words != expected_.size())
      throw integrity_error("expected " + std::to_string(expected_.size()) + " words, found "
                            + std::to_string(words));
  }
  std::uint64_t blocks() const { return blocks_; }

 private:
  // The host must not follow a pointer out of the heap.
  void require_object(const void* p, std::size_t bytes, const char* what,
                      std::uint32_t bucket) const {
    const auto* at = static_cast<const std::byte*>(p);
    if (at < heap_.base || bytes > heap_.bytes || at > heap_.base + (heap_.bytes - bytes))
      throw integrity_error(std::string(what) + " in bucket " + std::to_string(bucket)
                            + ": expected the address of " + std::to_string(bytes)
                            + " bytes in the heap, found " + address_text(p));
    if (reinterpret_cast<std::uintptr_t>(p) % alignof(void*) != 0)
      throw integrity_error(std::string(what) + " in bucket " + std::to_string(bucket)
                            + ": expected an address divisible by " + std::to_string(alignof(void*))
                            + ", found " + address_text(p));
  }

  void require_word(word_node* node, std::uint32_t bucket) {
    const std::string word(node->characters(), node->length);
    const std::string object = "word '" + word + "' at " + address_text(node);
    const auto known = expected_.find(word);
    if (known == expected_.end())
      throw integrity_error(object + ": expected a word of the text, found none such");
    std::uint32_t hash = hash_start;
    for (const char c : word) hash = hash_step(hash, c);
    if (hash != node->hash || map_.bucket(hash) != map_.buckets + bucket)
      throw integrity_error(object + ": expected hash " + std::to_string(hash) + ", found "
                            + std::to_string(node->hash) + " in bucket " + std::to_string(bucket));

    const std::vector<posting>& expected = known->second;
    found_.clear();
    for (posting_block* block = node->blocks; block != nullptr; block = block->next) {
      require_object(block, sizeof(posting_block), "posting block", bucket);
      require_object(block, posting_block::bytes(block->capacity), "posting block", bucket);
      found_.insert(found_.end(), block->entries(), block->entries() + block->filled());
      ++blocks_;
      if (found_.size() > expected.size()) break;
    }
    if (found_.size() != expected.size())
      throw integrity_error(object + ": expected " + std::to_string(expected.size())
                            + " postings, found " + std::to_string(found_.size()));
    std::sort(found_.begin(), found_.end());
    const auto [want, got] = std::mismatch(expected.begin(), expected.end(), found_.begin());
    if (want != expected.end())
      throw integrity_error(object + ": expected posting " + place_text(corpus_, *want) + ", found "
                            + place_text(corpus_, *got));
  }

  heap_view heap_;
  hash_map map_;
  const text_corpus& corpus_;
  const reference_index& expected_;
  std::vector<posting> found_;
  std::uint64_t blocks_ = 0;
};

/// Frees every second bucket, from bucket 0 on, and returns the number of objects.
std::uint64_t free_on_host(heap& of, hash_map map) {
  std::uint64_t objects = 0;
  for (std::uint32_t b = 0; b <= map.mask; b += 2)
    for (word_node* node = map.buckets[b]; node != nullptr;) {
      for (posting_block* block = node->blocks; block != nullptr; ++objects) {
        posting_block* older = block->next;
        of.free(block);
        block = older;
      }
      word_node* next = node->next;
      of.free(node);
      ++objects;
      node = next;
    }
  return objects;
}

result run_index(const run_context& run) {
  run.step("collects text");
  const corpus_limits limits = run.wanted.quick
                                   ? corpus_limits{std::size_t{2} << 20, std::size_t{32} << 10}
                                   : corpus_limits{std::size_t{32} << 20, std::size_t{256} << 10};
  const text_corpus corpus =
      load_text_corpus(default_text_roots(), limits, [&](std::size_t files, std::size_t bytes) {
        run.step(std::to_string(files) + " files, " + format_bytes(bytes) + " of text");
      });
  if (corpus.text.empty())
    throw no_input("no text in /usr/share/common-licenses, /usr/share/doc, /usr/share/perl, /etc");
  run.step("builds the index on the host");
  const reference_index expected = build_reference_index(corpus);
  std::uint64_t postings = 0;
  for (const auto& [word, places] : expected) postings += places.size();

  const device_array<char> text{std::span<const char>(corpus.text)};
  const std::vector<text_piece> cut = cut_into_pieces(corpus, piece_bytes);
  const device_array<text_piece> pieces{std::span<const text_piece>(cut)};
  device_array<tally> counts(tallies);
  device_array<word_node**> created(1);
  const auto buckets =
      static_cast<std::uint32_t>(std::bit_ceil(std::max<std::size_t>(2, expected.size())));

  heap tested(run.heap_of_case());
  const device_heap dev = tested.device();
  timings index("index");
  timings host_free("host_free");
  timings kernel_free("kernel_free");
  tally all{};
  heap_snapshot full;
  std::uint64_t payload = 0;
  std::uint64_t blocks = 0;
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    const std::string name = "repetition " + std::to_string(i + 1);
    run.step(name + ": index");
    counts.clear();
    launch(1, block_threads, create_map_kernel, dev, buckets, created.data(), counts.data());
    synchronize();
    if (const tally so_far = total(counts); so_far.denied != 0) count_index_calls(run, so_far);
    const hash_map map{created.to_host().front(), buckets - 1};
    launch(blocks_for(buckets), block_threads, clear_map_kernel, map);
    synchronize();
    index.add(time_of([&] {
                launch(blocks_for(cut.size()), block_threads, index_kernel, dev, map, text.data(),
                       pieces.data(), cut.size(), counts.data());
              }),
              postings);
    const tally inserted = total(counts);
    count_index_calls(run, inserted);
    full = snapshot(tested);
    payload = inserted.malloc_bytes - inserted.free_bytes;
    all.mallocs += inserted.mallocs;
    all.frees += inserted.frees;

    run.step(name + ": compares");
    map_reader reader(tested.device(), map, corpus, expected);
    reader.require_equal();
    blocks = reader.blocks();

    run.step(name + ": frees");
    const stopwatch clock;
    const std::uint64_t host_frees = free_on_host(tested, map);
    tested.synchronize();  // until the device has them back
    host_free.add(read(clock), host_frees);
    counts.clear();
    const elapsed took = time_of([&] {
      launch(blocks_for(buckets / 2), block_threads, free_kernel, dev, map, counts.data());
    });
    const std::uint64_t kernel_frees = total(counts).frees;
    kernel_free.add(took, kernel_frees);
    tested.free(map.buckets);
    if (host_frees + kernel_frees != expected.size() + blocks)
      throw integrity_error(name + ": expected " + std::to_string(expected.size() + blocks)
                            + " objects to free, found "
                            + std::to_string(host_frees + kernel_frees));
    require_empty(tested, name + ", after everything was freed");
  }

  result out;
  out.params = {{"files", std::uint64_t{corpus.files()}},
                {"text_bytes", std::uint64_t{corpus.text.size()}},
                {"words", std::uint64_t{expected.size()}},
                {"postings", postings}};
  out.operations = {index.finish(), host_free.finish(), kernel_free.finish()};
  out.heap = usage(full, snapshot(tested), payload, all.mallocs);
  out.metrics = {{"payload_bytes", payload},
                 {"frees_of_lost_races", std::uint64_t{all.frees}},
                 {"posting_blocks", blocks}};
  return out;
}

const registration of_index(
    {"text-index", "inverted index of text: build in kernels, read and free on both sides",
     this_backend, 3, run_index});

}  // namespace
}  // namespace warpheap::bench
