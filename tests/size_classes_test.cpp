#include <warpheap/size_classes.hpp>

#include <gtest/gtest.h>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace warpheap;

struct row {
  unsigned cls;
  std::size_t size, span, objects, tail;
  std::string waste;
  std::size_t align;
};

std::vector<row> rows() {
  std::ifstream file(WARPHEAP_TEST_DATA "/size_classes.csv");
  std::vector<row> out;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#' || line[0] == 'c') continue;
    std::istringstream in(line);
    row r{};
    char comma;
    in >> r.cls >> comma >> r.size >> comma >> r.span >> comma >> r.objects >> comma >> r.tail
        >> comma;
    std::getline(in, r.waste, ',');
    in >> r.align;
    out.push_back(r);
  }
  return out;
}

TEST(size_classes, table_is_gos_in_all_columns) {
  const auto all = rows();
  ASSERT_EQ(all.size(), num_classes);
  for (const row& r : all) {
    SCOPED_TRACE(r.cls);
    EXPECT_EQ(class_to_size(r.cls), r.size);
    EXPECT_EQ(class_to_pages(r.cls) * page_size, r.span);
    EXPECT_EQ(class_to_objects(r.cls), r.objects);
    if (r.cls == 0) continue;
    EXPECT_EQ(r.span - r.objects * r.size, r.tail);
    EXPECT_EQ(class_to_align(r.cls), r.align);
    const std::size_t previous = class_to_size(r.cls - 1);
    const double waste = static_cast<double>((r.size - previous - 1) * r.objects + r.tail)
                         / static_cast<double>(r.span);
    char text[16];
    std::snprintf(text, sizeof text, "%.2f%%", waste * 100);
    EXPECT_EQ(text, r.waste);
  }
}

TEST(size_classes, every_size_gets_the_smallest_class_that_holds_it) {
  EXPECT_EQ(size_to_class(0), 0u);
  unsigned c = 0;
  for (std::size_t n = 1; n <= max_small_size; ++n) {
    if (n > class_to_size(c)) ++c;
    ASSERT_EQ(size_to_class(n), c) << n;
    ASSERT_EQ(round_up_size(n), class_to_size(c)) << n;
  }
  EXPECT_EQ(c, num_classes - 1);
}

TEST(size_classes, large_sizes_round_up_to_pages_without_overflow) {
  EXPECT_EQ(round_up_size(0), 0u);
  EXPECT_EQ(round_up_size(32769), 40960u);
  EXPECT_EQ(round_up_size(40960), 40960u);
  EXPECT_EQ(round_up_size(SIZE_MAX - 8191), SIZE_MAX - 8191);
  EXPECT_EQ(round_up_size(SIZE_MAX - 8190), 0u);
  EXPECT_EQ(round_up_size(SIZE_MAX), 0u);
}

TEST(size_classes, slot_index_is_exact_for_all_offsets) {
  for (unsigned c = 1; c < num_classes; ++c) {
    const auto size = static_cast<std::uint32_t>(class_to_size(c));
    const std::uint32_t magic = class_to_magic(c);
    std::uint32_t slot = 0;
    std::uint32_t rest = 0;
    std::uint32_t wrong = 0;
    for (std::uint32_t offset = 0; offset < max_slot_offset; ++offset) {
      wrong += slot_index(offset, magic) != slot;
      if (++rest == size) {
        rest = 0;
        ++slot;
      }
    }
    EXPECT_EQ(wrong, 0u) << "class " << c;
  }
}

TEST(size_classes, span_class_keeps_both_halves) {
  for (unsigned sc = 0; sc < num_span_classes; ++sc) {
    EXPECT_EQ(make_span_class(span_class_size_class(sc), span_class_noscan(sc)), sc);
  }
  EXPECT_EQ(num_span_classes, 136u);
  EXPECT_EQ(make_span_class(tiny_class, true), 5u);
}

}  // namespace
