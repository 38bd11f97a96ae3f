// Mark and sweep on request.
#include <cstring>

#include "host/heap_registry.hpp"
#include "host/host_heap.hpp"

namespace warpheap {

namespace {

constexpr std::size_t max_dangling = 1000;

/// Adds up what a sweep finds. Does not call malloc, as it is called under the heap's locks.
class report_builder final : public sweep_sink {
 public:
  explicit report_builder(std::size_t listed) : listed_(listed) {}

  void kept(std::size_t bytes) override { add(kept_sum, bytes); }
  void leaked(void* p, std::size_t bytes, unsigned size_class) override {
    add(by_class[size_class], bytes);
    if (leaks.size() < listed_) (void)leaks.push_back({p, bytes, size_class});
  }
  void dangling(void* p) override {
    ++dangling_marks;
    if (dangling_pointers.size() < max_dangling) (void)dangling_pointers.push_back(p);
  }
  void tiny_blocks_freed(unsigned n) override { tiny_blocks += n; }

  sweep_report::sum kept_sum;
  std::array<sweep_report::sum, num_classes + 1> by_class{};
  sys_vector<sweep_report::object> leaks;
  std::uint64_t tiny_blocks = 0;
  std::uint64_t dangling_marks = 0;
  sys_vector<void*> dangling_pointers;

 private:
  static void add(sweep_report::sum& s, std::size_t bytes) {
    ++s.objects;
    s.bytes += bytes;
  }
  std::size_t listed_;
};

}  // namespace

/// False for tiny objects, and for no object.
bool host_heap::may_hold_pointers(const live_object& object) {
  return object.span != nullptr && object.span_class != tiny_span_class
         && !span_class_noscan(object.span_class);
}

mark_status host_heap::mark(const void* p) {
  if (p == nullptr || p == base()) return mark_status::again;
  const std::size_t page = pages_.page_number(p);
  if (page == mheap::no_page) return mark_status::foreign;
  if (!central_.marks.has_begun()) begin_marks();
  if (pages_.owner(page).is_device()) return mark_status::device;
  const live_object object = find_live(p, false);
  const mark_status status = object.span != nullptr ? set_mark(object) : mark_status::dangling;
  return status == mark_status::dangling ? note_dangling(const_cast<void*>(p)) : status;
}

/// Before the first mark: objects allocated from here on need no mark.
void host_heap::begin_marks() {
  const std::scoped_lock lock(caches_mutex_);
  central_.marks.begin(pages_.sweepgen() + 2, [this] {
    for (mcache* c : caches_) {
      if (!c->lost) c->note_all_births();
    }
  });
}

/// Meanwhile the object may be freed, and its span be cut into other slots or replaced by another
/// span. Marks are never freed before the sweep (span_marks), and marks made for another first slot
/// or class are not used, so such a mark is on no object.
mark_status host_heap::set_mark(const live_object& object) {
  bool gone = false;
  span_marks* const marks = central_.marks.of(*object.span, object.first, object.span_class, [&] {
    gone = !is_current(object);
    return !gone;
  });
  if (gone) return mark_status::dangling;
  if (marks == nullptr) return lose_marks();
  return marks->set(object.mark_bit) ? mark_status::again : mark_status::marked;
}

mark_status host_heap::note_dangling(void* p) {
  const std::scoped_lock lock(caches_mutex_);
  ++dangling_marks_;
  if (dangling_.size() < max_dangling) (void)dangling_.push_back(p);
  return mark_status::dangling;
}

contents host_heap::contents_at(const void* p) const {
  const live_object object = find_live(p, true);
  return may_hold_pointers(object) ? contents::pointers : contents::no_pointers;
}

mark_status host_heap::mark_reachable(const void* p) {
  const mark_status status = mark(p);
  if (status != mark_status::marked) return status;
  struct block {
    const std::byte* start;
    std::size_t bytes;
  };
  sys_vector<block> to_read;
  const auto add = [&](const live_object& object) {
    // Objects without pointers are not read.
    return !may_hold_pointers(object) || to_read.push_back({object.start, object.bytes});
  };
  if (!add(find_live(p, false))) return lose_marks();
  while (!to_read.empty()) {
    const block from = to_read.back();
    to_read.erase(&to_read.back());
    for (std::size_t at = 0; at + sizeof(void*) <= from.bytes; at += sizeof(void*)) {
      const void* word = nullptr;
      std::memcpy(&word, from.start + at, sizeof word);
      const live_object object = find_live(word, true);
      if (object.span == nullptr) continue;
      const mark_status set = set_mark(object);
      if (set == mark_status::no_memory) return set;
      if (set == mark_status::marked && !add(object)) return lose_marks();
    }
  }
  return status;
}

sweep_report host_heap::sweep(std::size_t listed) {
  report_builder found(listed);
  sweep_report report;
  {
    const std::scoped_lock registered(heap_registry::instance().mutex);
    const std::scoped_lock lock(caches_mutex_);
    if (central_.marks.lost()) {
      // Existing marks stay: the caller may add the missing ones and try again.
      central_.marks.forgive_lost();
      report.complete = false;
      return report;
    }
    found.dangling_marks = dangling_marks_;
    found.dangling_pointers.swap(dangling_);
    const bulk_call bulk(*this);
    finish_sweep();
    begin_cycle(&found);
    finish_sweep();
    central_.forget_sink();
    central_.marks.drop_marks();
    std::uint64_t objects = 0;
    for (unsigned c = 0; c <= num_classes; ++c) {
      const std::uint64_t n = found.by_class[c].objects;
      (c < num_classes ? retired_.frees[c] : retired_.tiny_frees).add(n);
      objects += n;
    }
    retired_.freed_by_reset.add(objects);
    retired_.large_bytes_freed.add(found.by_class[0].bytes);
    retired_.tiny_blocks_freed.add(found.tiny_blocks);
  }
  // Outside the locks, as the vectors' memory may come from this very heap.
  report.kept = found.kept_sum;
  report.leaked_by_class = found.by_class;
  for (const sweep_report::sum& s : found.by_class) {
    report.leaked.objects += s.objects;
    report.leaked.bytes += s.bytes;
  }
  report.leaks.assign(found.leaks.begin(), found.leaks.end());
  report.dangling = found.dangling_marks;
  report.dangling_pointers.assign(found.dangling_pointers.begin(), found.dangling_pointers.end());
  return report;
}

}  // namespace warpheap
