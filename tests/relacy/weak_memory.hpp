// Plain memory under relacy's memory model.
//
// The heap's words are plain integers in one block of memory. While an execution runs, a word that
// somebody writes gets a history of values and the clocks that relacy keeps for a std::atomic, so
// that a load may return any value that C++ allows it to return. Words go back to their plain value
// before the next execution: it costs nothing to start from any state of the heap.
#pragma once

#include "relacy_library.hpp"
#include "weakening.hpp"

namespace warpheap::weak {

inline constexpr rl::thread_id_t max_threads = 4;

/// Where in the sources an operation stands, for the history of a failed execution.
struct site {
  const char* operation;
  const char* file;
  unsigned line;

  rl::debug_info info() const { return {"", file, line}; }
};

/// An operation in the history of a failed execution.
struct word_event {
  const char* operation;
  const char* array;
  std::size_t index;
  std::uint64_t old_value, new_value;
  rl::memory_order order;
  bool stale;

  void output(std::ostream& s) const {
    s << operation << ' ' << array << '[' << index << "] " << std::hex << old_value;
    if (new_value != old_value) s << " -> " << new_value;
    s << std::dec << (stale ? " (stale) " : " ") << rl::format(order);
  }
};

class memory {
 public:
  /// The block that holds all words, zero at first. Outside of executions, as are all of these.
  std::byte* map(std::size_t bytes) {
    block_.reset(static_cast<std::byte*>(std::calloc(bytes, 1)));
    histories_ = std::vector<history*>(bytes / 4);
    quiet_ = std::vector<bool>(bytes / 4);
    names_.clear();
    handed_.clear();
    elsewhere_ = nullptr;
    used_ = undone_ = 0;
    if (pool_.empty())
      for (unsigned i = 0; i < most_written_words; ++i)
        pool_.push_back(std::make_unique<history>());
    return block_.get();
  }
  /// A word that lies elsewhere, as static ones do. One at most.
  void add(const void* word, unsigned size) {
    elsewhere_ = static_cast<const std::byte*>(word);
    first_elsewhere_ = histories_.size();
    histories_.resize(first_elsewhere_ + size / 4);
    quiet_.resize(first_elsewhere_ + size / 4);
  }
  /// Name of an array in the histories of failed executions.
  void name(const void* array, std::size_t element, const char* text) {
    names_.push_back({index_of(array), element / 4, text});
  }
  /// Words that order nothing and that nobody decides by: no other thread runs at them, and they
  /// are as in a sequential program. Saves most of the steps of an execution.
  void silence(const void* first, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes / 4; ++i) quiet_[index_of(first) + i] = true;
  }

  /// Words of a silent array that are modelled all the same.
  void hear(const void* first, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes / 4; ++i) quiet_[index_of(first) + i] = false;
  }

  /// Words that the protocol hands from thread to thread: all uses of one, a write among them, have
  /// to be ordered. They may be atomic, but nobody relies on it, and relacy looks at them as at
  /// plain ones.
  void hand_over(const void* first, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes / 4; ++i) handed_.emplace(index_of(first) + i, clock{});
  }

  void begin_execution() {
    for (auto& [at, data] : handed_) data = {};
    for (unsigned i = 0; i < used_; ++i) histories_[pool_[i]->at] = nullptr;
    used_ = 0;
    for (; undone_ > 0; --undone_)
      write_plain(undo_[undone_ - 1].at, undo_[undone_ - 1].size, undo_[undone_ - 1].value);
    time_ = 0;
    until_pause_ = 0;
    running_ = true;
  }
  void end_execution() { running_ = false; }
  /// In the execution that has begun, a thread stands still before so many operations more, for
  /// long enough that others do all that they have to: schedules that are random at each operation
  /// have no such pause.
  void pause_once(rl::thread_id_t thread, unsigned operations) {
    pausing_thread_ = thread;
    until_pause_ = operations + 1;
  }
  bool running() const { return running_; }
  /// A clock that goes on whenever somebody looks at it.
  std::uint64_t tick() { return time_ += 10; }

  std::uint64_t load(const void* p, unsigned size, rl::memory_order order, const site& at) {
    order = weakening_.of(order, at.file, at.line);
    if (is_handed_over(p, false) || !modelled(p)) return read_plain(p, size);
    rl::context& c = rl::ctx();
    let_others_run(c);
    const history* h = histories_[index_of(p)];
    if (h == nullptr) {
      const std::uint64_t value = read_plain(p, size);
      log(c, at, p, value, value, order, false);
      return value;
    }
    auto* data = const_cast<rl::atomic_data_impl<max_threads>*>(&h->data);
    const unsigned i = order == rl::mo_seq_cst   ? c.threadx_->atomic_load_seq_cst(data)
                       : order == rl::mo_acquire ? c.threadx_->atomic_load_acquire(data)
                                                 : c.threadx_->atomic_load_relaxed(data);
    log(c, at, p, h->values[i], h->values[i], order, i != h->newest);
    return h->values[i];
  }

  void store(void* p, unsigned size, std::uint64_t value, rl::memory_order order, const site& at) {
    order = weakening_.of(order, at.file, at.line);
    if (is_handed_over(p, true) || !modelled(p)) return write_quiet(p, size, value);
    rl::context& c = rl::ctx();
    let_others_run(c);
    history& h = history_of(p, size);
    // A release sequence ends at a store, also at one of the thread that began it (C++20).
    auto& previous = h.data.history_[h.data.current_index_ % rl::atomic_history_size];
    const rl::thread_id_t by = std::exchange(previous.thread_id_, max_threads);
    const unsigned i = order == rl::mo_seq_cst   ? c.threadx_->atomic_store_seq_cst(&h.data)
                       : order == rl::mo_release ? c.threadx_->atomic_store_release(&h.data)
                                                 : c.threadx_->atomic_store_relaxed(&h.data);
    previous.thread_id_ = by;
    log(c, at, p, h.value(), value, order, false);
    h.put(i, value);
  }

  template <class Change>
  std::uint64_t change(void* p, unsigned size, rl::memory_order order, const site& at,
                       const Change& new_value) {
    order = weakening_.of(order, at.file, at.line);
    if (!modelled(p)) {
      const std::uint64_t old = read_plain(p, size);
      write_quiet(p, size, new_value(old));
      return old;
    }
    rl::context& c = rl::ctx();
    let_others_run(c);
    history& h = history_of(p, size);
    const std::uint64_t old = h.value();
    h.put(modify(c, h, order), new_value(old));
    log(c, at, p, old, h.value(), order, false);
    return old;
  }

  bool compare_exchange(void* p, unsigned size, std::uint64_t& expected, std::uint64_t desired,
                        rl::memory_order order, const site& at) {
    order = weakening_.of(order, at.file, at.line);
    if (!modelled(p)) {
      const std::uint64_t old = read_plain(p, size);
      if (old == expected) write_quiet(p, size, desired);
      return std::exchange(expected, old) == old;
    }
    rl::context& c = rl::ctx();
    let_others_run(c);
    history& h = history_of(p, size);
    const std::uint64_t old = h.value();
    if (old == expected)
      h.put(modify(c, h, order), desired);
    else if (order == rl::mo_seq_cst)
      c.threadx_->atomic_load_seq_cst_rmw(&h.data);
    else
      c.threadx_->atomic_load_relaxed_rmw(&h.data);
    log(c, at, p, old, h.value(), order, false);
    return std::exchange(expected, old) == old;
  }

  void fence() {
    if (!running_) return;
    rl::ctx().sched();
    rl::ctx().atomic_thread_fence_seq_cst();
  }

  /// A full fence in every thread, which the system has them execute (membarrier).
  void fence_in_all() {
    if (!running_) return;
    rl::context& c = rl::ctx();
    c.sched();
    const rl::thread_id_t own = c.threadx_->index_;
    auto* const all = static_cast<rl::aligned<rl::thread_info<max_threads>>*>(c.threadx_) - own;
    const auto fence = [&](rl::thread_id_t i) {
      all[i].atomic_thread_fence_seq_cst(c.seq_cst_fence_order_);
    };
    // Theirs come after what this thread did before, and before what it does after.
    fence(own);
    for (rl::thread_id_t i = 0; i < max_threads; ++i) fence(i);
    fence(own);
  }

  /// The last value of a word in modification order.
  template <class T>
  T latest(const T& word) const {
    const history* h = running_ ? histories_[index_of(&word)] : nullptr;
    return h != nullptr ? static_cast<T>(h->value()) : word;
  }

 private:
  struct history {
    rl::atomic_data_impl<max_threads> data;
    std::uint64_t values[rl::atomic_history_size];
    unsigned newest;
    std::size_t at;

    std::uint64_t value() const { return values[newest]; }
    void put(unsigned i, std::uint64_t value) {
      newest = i;
      values[i] = value;
    }
  };
  using clock = rl::var_data_impl<max_threads>;
  struct named_array {
    std::size_t first, element;
    const char* text;
  };
  struct plain_value {
    void* at;
    unsigned size;
    std::uint64_t value;
  };
  struct free_block {
    void operator()(std::byte* p) const { (std::free)(p); }
  };
  static constexpr unsigned most_written_words = 1024;
  static constexpr unsigned pause_turns = 1000;

  std::size_t index_of(const void* p) const {
    if (p == elsewhere_) return first_elsewhere_;
    return static_cast<std::size_t>(static_cast<const std::byte*>(p) - block_.get()) / 4;
  }
  bool is_handed_over(const void* p, bool write) {
    if (!running_ || handed_.empty()) return false;
    const auto found = handed_.find(index_of(p));
    if (found == handed_.end()) return false;
    rl::thread_info_base& thread = *rl::ctx().threadx_;
    if (!(write ? found->second.store(thread) : found->second.load(thread)))
      rl::ctx().fail_test("two uses of a word that is handed over are not ordered",
                          rl::test_result_data_race, {});
    return true;
  }
  bool modelled(const void* p) const {
    return running_ && index_of(p) < quiet_.size() && !quiet_[index_of(p)];
  }

  void let_others_run(rl::context& c) {
    if (until_pause_ > 0 && c.threadx_->index_ == pausing_thread_ && --until_pause_ == 0)
      for (unsigned turns = 0; turns < pause_turns; ++turns) c.sched();
    c.sched();
  }

  static std::uint64_t read_plain(const void* p, unsigned size) {
    std::uint64_t value = 0;
    std::memcpy(&value, p, size);
    return value;
  }
  static void write_plain(void* p, unsigned size, std::uint64_t value) {
    std::memcpy(p, &value, size);
  }
  void write_quiet(void* p, unsigned size, std::uint64_t value) {
    if (running_) {
      if (undone_ == most_written_words) fail("too many writes of quiet words");
      undo_[undone_++] = {p, size, read_plain(p, size)};
    }
    write_plain(p, size, value);
  }
  [[noreturn]] static void fail(const char* what) {
    rl::ctx().fail_test(what, rl::test_result_user_assert_failed, {});
    std::abort();
  }

  /// The history of a word, which begins with the plain value: everybody sees that one from the
  /// start.
  history& history_of(void* p, unsigned size) {
    const std::size_t i = index_of(p);
    if (histories_[i] != nullptr) return *histories_[i];
    if (used_ == most_written_words) fail("too many words are written");
    history& h = *pool_[used_++];
    histories_[i] = &h;
    h.at = i;
    h.data.current_index_ = 0;
    h.data.history_[0].busy_ = false;
    const unsigned first = rl::ctx().threadx_->atomic_init(&h.data);
    std::fill_n(h.data.history_[first].first_seen_order_, max_threads,
                ~static_cast<rl::timestamp_t>(0));
    h.put(first, read_plain(p, size));
    return h;
  }

  static unsigned modify(rl::context& c, history& h, rl::memory_order order) {
    bool aba = false;
    switch (order) {
      case rl::mo_relaxed: return c.threadx_->atomic_rmw_relaxed(&h.data, aba);
      case rl::mo_acquire: return c.threadx_->atomic_rmw_acquire(&h.data, aba);
      case rl::mo_release: return c.threadx_->atomic_rmw_release(&h.data, aba);
      case rl::mo_seq_cst: return c.threadx_->atomic_rmw_seq_cst(&h.data, aba);
      default: return c.threadx_->atomic_rmw_acq_rel(&h.data, aba);
    }
  }

  void log(rl::context& c, const site& at, const void* p, std::uint64_t old_value,
           std::uint64_t new_value, rl::memory_order order, bool stale) const {
    if (!c.collecting_history()) return;
    const std::size_t i = index_of(p);
    named_array found{0, 1, "?"};
    for (const named_array& n : names_)
      if (n.first <= i && n.first >= found.first) found = n;
    c.exec_log(at.info(), word_event{at.operation, found.text, (i - found.first) / found.element,
                                     old_value, new_value, order, stale});
  }

  const weakening weakening_;
  std::unique_ptr<std::byte, free_block> block_;
  const std::byte* elsewhere_ = nullptr;
  std::size_t first_elsewhere_ = 0;
  std::vector<history*> histories_;
  std::vector<bool> quiet_;
  std::vector<named_array> names_;
  std::map<std::size_t, clock> handed_;
  std::vector<std::unique_ptr<history>> pool_;
  unsigned used_ = 0, undone_ = 0;
  plain_value undo_[most_written_words];
  std::uint64_t time_ = 0;
  rl::thread_id_t pausing_thread_ = 0;
  unsigned until_pause_ = 0;
  bool running_ = false;
};

inline memory the_memory;

inline unsigned current_thread() {
  return the_memory.running() ? static_cast<unsigned>(rl::ctx().threadx_->index_) : 0;
}
inline void yield() {
  if (the_memory.running()) rl::ctx().yield(1, {});
}

/// Ends the execution, and with it the test.
inline void fail(const char* what) {
  if (!the_memory.running()) throw std::runtime_error(what);
  rl::ctx().fail_test(what, rl::test_result_user_assert_failed, {});
}

}  // namespace warpheap::weak
