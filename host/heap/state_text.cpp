// The whole of a heap at rest as text for people.
#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <warpheap/atomic.hpp>

#include "host/heap/impl.hpp"

namespace warpheap {

namespace {

class text {
 public:
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    char line[256];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    all_ += line;
  }
  void add_text(const std::string& more) { all_ += more; }
  std::string take() { return std::move(all_); }

 private:
  std::string all_;
};

const char* class_name(unsigned cls) {
  return cls == no_class ? "host" : cls == tiny_blocks ? "tiny" : cls == large_class ? "pages" : "";
}

/// A line for each class that has figures.
void add_classes(text& t, const std::vector<class_stats>& classes, bool observed) {
  t.add("\nkernels, by class%s\n", observed ? "" : " (mallocs and frees: no kernel was observed)");
  t.add("%5s %6s %7s %6s %6s %9s %9s %6s %7s %7s %8s %10s %11s %11s\n", "class", "bytes", "spans",
        "empty", "full", "live", "free", "fill", "grows", "retires", "failures", "scanned",
        "mallocs", "frees");
  class_stats sum;
  for (unsigned cls = 0; cls < classes.size(); ++cls) {
    const class_stats& k = classes[cls];
    if ((k.spans | k.live_objects | k.grows | k.failures | k.mallocs | k.frees) == 0) continue;
    const std::uint64_t slots = k.live_slots + k.free_slots;
    char fill[16] = "-", bytes[16] = "";
    if (slots != 0)
      std::snprintf(fill, sizeof fill, "%.0f%%",
                    100 * static_cast<double>(k.live_slots) / static_cast<double>(slots));
    if (k.slot_bytes != 0) std::snprintf(bytes, sizeof bytes, "%" PRIu32, k.slot_bytes);
    char number[16];
    std::snprintf(number, sizeof number, "%u", cls);
    t.add("%5s %6s %7" PRIu64 " %6" PRIu64 " %6" PRIu64 " %9" PRIu64 " %9" PRIu64 " %6s %7" PRIu64
          " %7" PRIu64 " %8" PRIu64 " %10" PRIu64,
          *class_name(cls) != 0 ? class_name(cls) : number, bytes, k.spans, k.empty_spans,
          k.full_spans, k.live_objects, k.free_slots, fill, k.grows, k.retires, k.failures,
          k.words_scanned);
    t.add(" %11" PRIu64 " %11" PRIu64 "\n", k.mallocs, k.frees);
    sum.spans += k.spans;
    sum.empty_spans += k.empty_spans;
    sum.full_spans += k.full_spans;
    sum.live_objects += k.live_objects;
    sum.free_slots += k.free_slots;
    sum.grows += k.grows;
    sum.retires += k.retires;
    sum.failures += k.failures;
    sum.words_scanned += k.words_scanned;
    sum.mallocs += k.mallocs;
    sum.frees += k.frees;
  }
  t.add("%5s %6s %7" PRIu64 " %6" PRIu64 " %6" PRIu64 " %9" PRIu64 " %9" PRIu64 " %6s %7" PRIu64
        " %7" PRIu64 " %8" PRIu64 " %10" PRIu64 " %11" PRIu64 " %11" PRIu64 "\n",
        "sum", "", sum.spans, sum.empty_spans, sum.full_spans, sum.live_objects, sum.free_slots, "",
        sum.grows, sum.retires, sum.failures, sum.words_scanned, sum.mallocs, sum.frees);
}

void add_latency(text& t, const char* what, const latency_histogram& h, const char* unit) {
  if (h.calls() == 0) return;
  t.add("%-8s %12" PRIu64 " calls, half within %" PRIu64 " %s, 99 %% within %" PRIu64
        ", all within %" PRIu64 "\n",
        what, h.calls(), h.quantile(0.5), unit, h.quantile(0.99), h.quantile(1));
  const std::uint64_t most = *std::max_element(std::begin(h.buckets), std::end(h.buckets));
  for (unsigned b = 0; b < latency_buckets; ++b) {
    if (h.buckets[b] == 0) continue;
    const auto stars = static_cast<std::size_t>(40 * h.buckets[b] / most);
    t.add("  up to %12" PRIu64 " %12" PRIu64 " %s\n", bits::low_mask(b), h.buckets[b],
          std::string(stars, '*').c_str());
  }
}

/// A word of the queue, which the service may change at any time. Relaxed: only a figure.
template <class T>
T seen(const T& word) {
  return atomic::load<order::relaxed, scope::system>(&word);
}

/// The state of each mailbox's round; see mailbox.hpp.
void add_queue(text& t, const refill_queue& q, const device_state& s) {
  unsigned asked = 0, answered = 0, acked = 0;
  for (unsigned box = 0; box < mailboxes; ++box) {
    const std::uint32_t seq = seen(q.request[box].seq);
    if (seen(q.closed[box]) == seq) continue;
    if (seen(q.reply[box].seq) != seq)
      ++asked;
    else if (refill_ack::seq_of(seen(q.ack[box].bits)) != seq)
      ++answered;
    else
      ++acked;
  }
  t.add("queue: service %s; mailboxes: %d free, %u asked, %u answered, %u to be closed\n",
        seen(q.service_alive) != 0 ? "runs" : "does not run",
        bits::popcount(s.free_mailboxes.value), asked, answered, acked);
  const std::uint32_t messages = seen(q.home.seq);
  t.add("       %" PRIu64 " requests so far, %" PRIu64
        " waits, the longest %.3f ms; pages sent "
        "home: %" PRIu64 " in %" PRIu32 " messages%s\n",
        s.host_requests.value, s.host_waits.value,
        static_cast<double>(s.longest_wait_ns.value) / 1e6, s.home_pages.value, messages,
        messages != seen(q.home_closed) ? ", the last not yet taken" : "");
  const auto denied = static_cast<std::uint32_t>(s.denied.value);
  if (denied != 0)
    t.add("       the host could not give a run of %" PRIu32 " pages%s\n", denied,
          s.denied.value >> 32 == seen(q.host_epoch) ? ", and none came free since" : " once");
}

/// `bits`: the stock's level 0, a bit for each free page.
void add_stock(text& t, const std::vector<std::uint64_t>& bits, const device_state& s) {
  std::uint64_t pages = 0, runs = 0, longest = 0, length = 0;
  for (std::size_t p = 0; p < bits.size() * 64; ++p) {
    const bool free = (bits[p / 64] >> (p % 64) & 1) != 0;
    if (free && length == 0) ++runs;
    if (free) ++pages;
    length = free ? length + 1 : 0;
    longest = std::max(longest, length);
  }
  t.add("\nstock: %" PRIu64 " of the %" PRIu64 " pages that kernels have are free, in %" PRIu64
        " runs, the longest of %" PRIu64 "%s\n",
        pages, s.device_pages.value, runs, longest,
        s.pressure.value != 0 ? "; it ran dry: empty spans are retired at once" : "");
}

void add_observed(text& t, const device_observation& o, const heap_stats& s, const char* unit) {
  if (o.active != 0) t.add("\nlatencies of observed kernels\n");
  add_latency(t, "malloc", s.device_malloc_latency, unit);
  add_latency(t, "free", s.device_free_latency, unit);
  add_latency(t, "failures", s.device_failure_latency, unit);
  const std::uint64_t events = o.events_so_far.value, slots = o.event_slots;
  if (slots != 0)
    t.add("events: %" PRIu64 " of %" PRIu64 " wait for the host, %" PRIu64 " lost\n",
          std::min(events, slots), slots, events - std::min(events, slots));
}

}  // namespace

std::string heap::impl::state_text() {
  text t;
  const heap_stats s = count();
  const heap_view& view = arrays.view();
  t.add("warpheap: %s of address space at %p, backend %s (%s)\n", format_bytes(view.bytes).c_str(),
        static_cast<void*>(view.base), to_string(chosen.memory->kind()),
        chosen.memory->device_name().c_str());
  t.add_text(to_string(s));
  if (operations != nullptr) {
    const std::lock_guard lock(device_mutex);
    const device_state state = operations->read_state();
    std::vector<std::uint64_t> stock(level_words(view.pages, 0));
    chosen.memory->copy_to_host(stock.data(), view.stock, stock.size() * sizeof stock[0]);
    add_classes(t, s.device_classes, state.observed.active != 0);
    add_stock(t, stock, state);
    add_queue(t, *view.queue, state);
    add_observed(t, state.observed, s,
                 chosen.memory->kind() == backend_kind::cuda ? "cycles" : "ns");
  }
  t.add("\nhost\n");
  t.add_text(to_string(memory()));
  return t.take();
}

void heap::impl::write_state() {
  synchronize();
  const std::string state = state_text();
  const std::string& name = options.print_state_file;
  if (name == "-") {
    std::fwrite(state.data(), 1, state.size(), stderr);
    return;
  }
  std::ofstream file(name, std::ios::binary | std::ios::app);
  file << state << '\n';
  file.close();
  if (!file) errors.say("warpheap: the state could not be written to " + name);
}

}  // namespace warpheap
