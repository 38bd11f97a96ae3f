// Streams, and the pool of OS threads that run blocks.
#include "machine.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

namespace warpheap::simt {

namespace detail {

namespace {

/// Stands for a point in a stream, for ThreadSanitizer.
using moment = std::shared_ptr<char>;

struct failure {
  stream_handle stream;
  std::exception_ptr error;
};

struct launch_record {
  launch_shape shape;
  std::function<void()> body;
  std::uint64_t blocks = 0;
  std::atomic<std::uint64_t> next{0};
  std::atomic<std::uint64_t> left{0};
  std::atomic<bool> cancelled{false};
  std::exception_ptr error;  // the pool's mutex
  std::list<failure> failed =
      std::list<failure>(1);  ///< room for the error: recording it allocates nothing
  unsigned last_worker = ~0u;
  stream_handle stream;
  moment begin;
  moment end;
};

using launch_handle = std::shared_ptr<launch_record>;

words::uint3 index_of(std::uint64_t block, const words::dim3& grid) {
  return {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
          static_cast<unsigned>(block / grid.x / grid.y)};
}

unsigned default_workers() {
#ifdef WARPHEAP_SIMT_TSAN
  // Races are detected only between blocks of different workers.
  constexpr unsigned least = 2;
#else
  constexpr unsigned least = 1;
#endif
  return std::max(least, std::thread::hardware_concurrency());
}

#ifdef WARPHEAP_SIMT_TSAN
constexpr bool neighbours_apart = true;
#else
constexpr bool neighbours_apart = false;
#endif

}  // namespace
}  // namespace detail

class stream_state {
 public:
  std::deque<detail::launch_handle> queue;
  std::uint64_t submitted = 0;
  std::uint64_t finished = 0;
  detail::moment tail = std::make_shared<char>();
};

namespace detail {
namespace {

class pool {
 public:
  /// Lives as long as the process: its threads may run kernels while the process exits.
  static pool& get() {
    static pool& only = *new pool;
    return only;
  }

  void submit(stream_handle stream, const launch_shape& shape, std::function<void()> body);
  void synchronize();
  void synchronize(const stream_handle& stream);
  void set_workers(unsigned count);
  unsigned workers();
  unsigned slots();
  std::size_t unfinished();

 private:
  /// Reachable from the pool, not from a thread's stack: a thread that runs a lane is on the lane's
  /// stack.
  struct worker_state {
    explicit worker_state(unsigned worker) : here(worker * warp_lanes) {}
    machine here;
    block where;
    std::size_t shared_bytes = 0;
    std::unique_ptr<std::byte[]> shared;
  };

  void work(unsigned worker);
  launch_handle take_launch(unsigned worker);
  void run_blocks(worker_state& mine, launch_record& launch);
  bool run_block(worker_state& mine, launch_record& launch);
  static std::exception_ptr run_lanes(worker_state& mine, const launch_record& launch);
  void cancel(launch_record& launch, const std::exception_ptr& error);
  void finish(launch_record& launch);
  void start_threads();

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  stream_handle default_stream_ = std::make_shared<stream_state>();
  std::vector<launch_handle> active_;  // at the head of its stream, with blocks to give out
  std::vector<stream_handle> busy_;    // with a launch that is not finished
  std::list<failure> failures_;
  std::size_t unfinished_ = 0;
  std::size_t turn_ = 0;
  unsigned limit_ = default_workers();
  unsigned most_ = limit_;
  std::vector<std::unique_ptr<worker_state>> states_;  // one for each thread
  std::atomic<bool> several_{false};  // launches active: blocks are given out one by one
  char all_ends_ = 0;
};

void pool::submit(stream_handle stream, const launch_shape& shape, std::function<void()> body) {
  const launch_handle launch(new launch_record, [](const launch_record* done) {
    // All lanes have left it, but the sanitizer does not know this of the thread that drops it
    // last.
    quiet_scope quiet;
    delete done;
  });
  launch->shape = shape;
  launch->body = std::move(body);
  launch->blocks = std::uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  launch->left = launch->blocks;
  launch->end = std::make_shared<char>();
  const std::lock_guard lock(mutex_);
  launch->stream = stream != nullptr ? std::move(stream) : default_stream_;
  stream_state& queue = *launch->stream;
  // All that can fail comes first: a launch that throws is not queued. Every active stream is busy,
  // so that finish() finds room in active_ as well.
  start_threads();
  busy_.reserve(busy_.size() + 1);
  active_.reserve(busy_.size() + 1);
  queue.queue.push_back(launch);
  launch->begin = std::exchange(queue.tail, launch->end);
  give(launch->begin.get());
  ++queue.submitted;
  ++unfinished_;
  if (queue.queue.size() == 1) {
    busy_.push_back(launch->stream);
    active_.push_back(launch);
    several_ = active_.size() > 1;
  }
  work_.notify_all();
}

void pool::start_threads() {
  while (states_.size() < limit_) {
    const auto worker = static_cast<unsigned>(states_.size());
    try {
      states_.push_back(std::make_unique<worker_state>(worker));
    } catch (const std::bad_alloc&) {
      if (worker == 0) throw;
      return;
    }
    try {
      std::thread([this, worker] { work(worker); }).detach();
    } catch (...) {
      states_.pop_back();
      // With fewer threads, launches take longer.
      if (worker == 0) throw;
      return;
    }
  }
}

launch_handle pool::take_launch(unsigned worker) {
  std::erase_if(active_, [](const launch_handle& l) {
    return l->next.load(std::memory_order_relaxed) >= l->blocks;
  });
  several_ = active_.size() > 1;
  if (active_.empty() || worker >= limit_) return nullptr;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    const launch_handle& candidate = active_[turn_++ % active_.size()];
    if (neighbours_apart && limit_ > 1 && candidate->last_worker == worker) continue;
    return candidate;
  }
  return nullptr;
}

void pool::work(unsigned worker) {
  // How long a worker leaves the next block to others, if neighbours are to be on different
  // workers.
  constexpr auto patience = std::chrono::milliseconds(10);
  std::unique_lock lock(mutex_);
  worker_state& mine = *states_[worker];
  mine.here.move_to_this_thread();
  mine.where.all_ends = &all_ends_;
  for (;;) {
    launch_handle launch = take_launch(worker);
    if (launch == nullptr) {
      if (!neighbours_apart || active_.empty()) {
        work_.wait(lock);
      } else if (work_.wait_for(lock, patience) == std::cv_status::timeout) {
        for (const launch_handle& l : active_) l->last_worker = ~0u;
      }
      continue;
    }
    launch->last_worker = worker;
    if (neighbours_apart) work_.notify_all();
    lock.unlock();
    {
      quiet_scope quiet;
      run_blocks(mine, *launch);
      launch.reset();
    }
    lock.lock();
  }
}

void pool::run_blocks(worker_state& mine, launch_record& launch) {
  block& where = mine.where;
  where.block_size = launch.shape.block;
  where.grid_size = launch.shape.grid;
  where.body = &launch.body;
  where.cancelled = &launch.cancelled;
  where.begin = launch.begin.get();
  where.end = launch.end.get();
  while (run_block(mine, launch)) {
    if (neighbours_apart || several_.load(std::memory_order_relaxed)) return;
  }
}

/// Runs the lanes of the block that `mine.where` describes. Returns what ended it early: an error
/// of a lane, or a lack of memory for the lanes' stacks or the block's shared memory.
std::exception_ptr pool::run_lanes(worker_state& mine, const launch_record& launch) try {
  if (mine.shared_bytes != launch.shape.dynamic_shared_bytes || mine.shared == nullptr) {
    // Of the exact size, so that AddressSanitizer sees its end.
    mine.shared = nullptr;
    mine.shared = std::make_unique_for_overwrite<std::byte[]>(launch.shape.dynamic_shared_bytes);
    mine.shared_bytes = launch.shape.dynamic_shared_bytes;
  }
  mine.where.dynamic_shared = mine.shared.get();
  mine.here.set_up(mine.where, 0, switch_points_in_a_row);
  mine.here.run(mine.where.warps.front()->lanes.front(), nullptr);
  return mine.where.error;
} catch (const std::bad_alloc&) {
  return std::current_exception();
}

bool pool::run_block(worker_state& mine, launch_record& launch) {
  // Relaxed: the counter only gives out numbers; what a block reads was published with the launch.
  const std::uint64_t index = launch.next.fetch_add(1, std::memory_order_relaxed);
  if (index >= launch.blocks) return false;
  mine.where.block_index = index_of(index, launch.shape.grid);
  if (!launch.cancelled.load(std::memory_order_relaxed)) {
    if (const std::exception_ptr error = run_lanes(mine, launch)) cancel(launch, error);
  }
  // acq_rel: the effects of all blocks happen before the finish of the launch.
  if (launch.left.fetch_sub(1, std::memory_order_acq_rel) == 1) finish(launch);
  return true;
}

void pool::cancel(launch_record& launch, const std::exception_ptr& error) {
  {
    const std::lock_guard lock(mutex_);
    if (launch.error == nullptr) launch.error = error;
  }
  launch.cancelled.store(true, std::memory_order_relaxed);
  // The caller still holds one block of `left`, so this cannot be the end of the launch.
  const std::uint64_t next = launch.next.exchange(launch.blocks, std::memory_order_relaxed);
  if (next < launch.blocks) launch.left.fetch_sub(launch.blocks - next, std::memory_order_acq_rel);
}

void pool::finish(launch_record& launch) {
  const std::lock_guard lock(mutex_);
  const stream_handle stream = launch.stream;
  if (launch.error != nullptr) {
    launch.failed.front() = {stream, launch.error};
    failures_.splice(failures_.end(), launch.failed);
  }
  std::erase_if(active_, [&](const launch_handle& l) { return l.get() == &launch; });
  stream->queue.pop_front();  // the caller has a handle of its own
  ++stream->finished;
  --unfinished_;
  if (stream->queue.empty()) {
    std::erase(busy_, stream);
  } else {
    active_.push_back(stream->queue.front());
    work_.notify_all();
  }
  several_ = active_.size() > 1;
  done_.notify_all();
}

void pool::synchronize() {
  std::unique_lock lock(mutex_);
  std::vector<std::pair<stream_handle, std::uint64_t>> targets;
  for (const stream_handle& s : busy_) targets.emplace_back(s, s->submitted);
  for (const auto& [stream, target] : targets)
    done_.wait(lock, [&, s = stream.get(), t = target] { return s->finished >= t; });
  take(&all_ends_);
  if (failures_.empty()) return;
  const std::exception_ptr first = failures_.front().error;
  failures_.clear();
  std::rethrow_exception(first);
}

void pool::synchronize(const stream_handle& stream) {
  std::unique_lock lock(mutex_);
  const moment tail = stream->tail;
  done_.wait(lock, [&, target = stream->submitted] { return stream->finished >= target; });
  take(tail.get());
  std::exception_ptr first;
  std::erase_if(failures_, [&](const failure& f) {
    if (f.stream != stream) return false;
    if (first == nullptr) first = f.error;
    return true;
  });
  if (first != nullptr) std::rethrow_exception(first);
}

void pool::set_workers(unsigned count) {
  const std::lock_guard lock(mutex_);
  limit_ = std::max(count, 1u);
  most_ = std::max(most_, limit_);
  if (!states_.empty()) start_threads();
  work_.notify_all();
}

unsigned pool::workers() {
  const std::lock_guard lock(mutex_);
  return limit_;
}

unsigned pool::slots() {
  const std::lock_guard lock(mutex_);
  return most_ * warp_lanes;
}

std::size_t pool::unfinished() {
  const std::lock_guard lock(mutex_);
  return unfinished_;
}

void refuse_in_a_kernel(const char* what) {
  if (this_thread.lane != nullptr)
    throw std::logic_error(std::string(what) + " was called by a kernel");
}

}  // namespace
}  // namespace detail

void validate(const launch_shape& shape) {
  const auto refuse = [](const std::string& why) { throw launch_error("invalid launch: " + why); };
  const auto check = [&](const char* what, unsigned value, unsigned most) {
    if (value == 0) refuse(std::string(what) + " is 0");
    if (value > most)
      refuse(std::string(what) + " is " + std::to_string(value) + ", more than "
             + std::to_string(most));
  };
  check("grid.x", shape.grid.x, 0x7fffffffu);
  check("grid.y", shape.grid.y, 0xffffu);
  check("grid.z", shape.grid.z, 0xffffu);
  check("block.x", shape.block.x, 1024);
  check("block.y", shape.block.y, 1024);
  check("block.z", shape.block.z, 64);
  const std::uint64_t threads = std::uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads > 1024) refuse("a block of " + std::to_string(threads) + " threads, more than 1024");
  constexpr std::size_t most_shared = 227 * 1024;  // of compute capability 9.0
  if (shape.dynamic_shared_bytes > most_shared)
    refuse(std::to_string(shape.dynamic_shared_bytes) + " bytes of shared memory, more than "
           + std::to_string(most_shared));
}

stream_handle make_stream() { return std::make_shared<stream_state>(); }

void submit(const stream_handle& stream, const launch_shape& shape, std::function<void()> body) {
  detail::refuse_in_a_kernel("launch");
  validate(shape);
  detail::pool::get().submit(stream, shape, std::move(body));
}

void synchronize() {
  detail::refuse_in_a_kernel("synchronize");
  detail::pool::get().synchronize();
}

void synchronize(const stream_handle& stream) {
  detail::refuse_in_a_kernel("synchronize");
  detail::pool::get().synchronize(stream);
}

void set_worker_threads(unsigned count) { detail::pool::get().set_workers(count); }
unsigned worker_threads() { return detail::pool::get().workers(); }
unsigned warp_slots() { return detail::pool::get().slots(); }
std::size_t active_kernels() { return detail::pool::get().unfinished(); }

}  // namespace warpheap::simt
