// Relacy's own loop over executions. Apart from the tests, as it is most of what they would
// compile.
#include "relacy/scenario.hpp"

#include <ostream>
#include <streambuf>
#include <string_view>

#include "test_scale.hpp"

namespace warpheap::weak {
namespace {

/// Relacy makes an object of this for each execution.
struct execution : rl::test_suite<execution, max_threads> {
  static inline const scenario* now = nullptr;

  void before() {
    now->heap.begin_execution();
    if (now->at_begin) now->at_begin();
    if (now->pause_within > 0)
      the_memory.pause_once(1, rl::ctx().rand(now->pause_within, rl::sched_type_user));
  }
  void thread(unsigned i) {
    if (now->threads[i]) now->threads[i]();
  }
  void after() {
    now->at_end();
    the_memory.end_execution();
  }
};

/// Relacy must not be made to allocate memory by what it prints: it would take it for the test's.
class text_buffer : public std::streambuf {
 public:
  void clear() { setp(text_, text_ + sizeof text_); }
  std::string_view view() const { return {text_, static_cast<std::size_t>(pptr() - text_)}; }

 private:
  char text_[1 << 20];
};

}  // namespace

void explore(std::uint64_t executions, const scenario& what) {
  static text_buffer text;
  text.clear();
  std::ostream log(&text), progress(nullptr);
  rl::test_params params;
  params.iteration_count = testing::scaled(executions);
  params.output_stream = &log;
  params.progress_stream = &progress;
  params.execution_depth_limit = 100'000;
  execution::now = &what;
  const bool ok = rl::simulate<execution>(params);
  the_memory.end_execution();
  EXPECT_TRUE(ok) << text.view();
}

}  // namespace warpheap::weak
