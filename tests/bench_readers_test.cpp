// Graphs from files, well-formed and not.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "bench/graph_reader.hpp"
#include "tests/temporary_files.hpp"

namespace warpheap::bench {
namespace {

using numbers = std::vector<std::uint32_t>;

// The text of the bad_input that a parser throws; empty if it takes the text.
template <class Parse>
std::string complaint(Parse&& parse, std::string_view text) {
  try {
    parse(text, "f");
  } catch (const bad_input& error) {
    return error.what();
  }
  return "";
}

constexpr const char* head = "%%MatrixMarket matrix coordinate ";
constexpr const char* good = "%%MatrixMarket matrix coordinate pattern general\n";

TEST(BenchMatrixMarket, GeneralPattern) {
  const graph_rows graph = parse_matrix_market(
      "%%MatrixMarket matrix coordinate pattern general\n% a comment\n\n3 3 3\n1 2\n3 1\n1 3\n",
      "f");
  EXPECT_EQ(graph.offsets, (numbers{0, 2, 2, 3}));
  EXPECT_EQ(graph.targets, (numbers{1, 2, 0}));
  EXPECT_EQ(graph.sources, (std::vector<std::string>{"f"}));
}

TEST(BenchMatrixMarket, SymmetricStandsForBothDirectionsAndValuesAreLeftOut) {
  const graph_rows graph = parse_matrix_market(
      "%%MatrixMarket MATRIX Coordinate Real symmetric\r\n3 3 3\r\n2 1 0.5\r\n3 3 1e9\r\n3 2 "
      "-1\r\n",
      "f");
  EXPECT_EQ(graph.offsets, (numbers{0, 1, 3, 5}));
  EXPECT_EQ(graph.targets, (numbers{1, 0, 2, 1, 2}));
}

TEST(BenchMatrixMarket, NotSquareAndNoNewlineAtTheEnd) {
  const graph_rows graph =
      parse_matrix_market(std::string(head) + "integer general\n2 4 1\n2 4 7", "f");
  EXPECT_EQ(graph.vertices(), 4u);
  EXPECT_EQ(graph.targets, (numbers{3}));
  EXPECT_EQ(parse_matrix_market(std::string(head) + "pattern general\n0 0 0\n", "f").vertices(),
            0u);
}

TEST(BenchMatrixMarket, MalformedFilesNameTheLineAndWhatWasExpected) {
  struct bad {
    const char* before;
    const char* rest;
    const char* line;
    const char* expected;
  };
  for (const auto& [before, rest, line, expected] : std::vector<bad>{
           {"", "", "f:0:", "%%MatrixMarket"},
           {"", "3 3 3\n", "f:1:", "%%MatrixMarket"},
           {"", "%%MatrixMarket matrix array real general\n", "f:1:", "matrix coordinate"},
           {head, "text general\n", "f:1:", "pattern"},
           {head, "pattern\n", "f:1:", "general"},
           {head, "pattern lower\n", "f:1:", "general"},
           {good, "", "f:1:", "rows, columns"},
           {good, "3 3\n", "f:2:", "rows, columns"},
           {good, "3 3 -1\n", "f:2:", "rows, columns"},
           {good, "3 3 1 1\n", "f:2:", "rows, columns"},
           {good, "99999999999 3 1\n1 1\n", "f:2:", "2^32"},
           {good, "3 3 1\n1\n", "f:3:", "row and column"},
           {good, "3 3 1\n1 x\n", "f:3:", "row and column"},
           {good, "3 3 1\n0 1\n", "f:3:", "inside of 3 x 3"},
           {good, "4294967294 1 1\n1 1\n", "f:2:", "fits into memory"},
           {good, "3 3 1\n1 4\n", "f:3:", "inside of 3 x 3"},
           {good, "3 3 1\n1 18446744073709551616\n", "f:3:", "row and column"},
           {good, "3 3 2\n1 1\n", "f:3:", "2 entries, found 1"},
           {good, "3 3 1\n1 1\n2 2\n", "f:4:", "1 entries, found more"}}) {
    const std::string text = std::string(before) + rest;
    const std::string got = complaint(parse_matrix_market, text);
    EXPECT_EQ(got.find(line), 0u) << text << " -> " << got;
    EXPECT_NE(got.find(expected), got.npos) << text << " -> " << got;
  }
}

TEST(BenchEdgeList, BlanksTabsCommasCommentsAndWeights) {
  const graph_rows graph =
      parse_edge_list("# nodes\n% more\n10 20\n\n20\t10 0.5\n  7,20,1\n10 20\n", "f");
  EXPECT_EQ(graph.vertices(), 3u);  // 7, 10, 20
  EXPECT_EQ(graph.offsets, (numbers{0, 1, 2, 3}));
  EXPECT_EQ(graph.targets, (numbers{2, 2, 1}));
  EXPECT_EQ(parse_edge_list("18446744073709551615 0", "f").targets, (numbers{0}));
  EXPECT_EQ(parse_edge_list("", "f").vertices(), 0u);
}

TEST(BenchEdgeList, MalformedLinesAreNamed) {
  for (const char* bad :
       {"1\n", "1 x\n", "x 1\n", "1 -2\n", "1.5 2\n", "1 18446744073709551616\n"}) {
    const std::string got = complaint(parse_edge_list, std::string("1 2\n") + bad);
    EXPECT_EQ(got.find("f:2:"), 0u) << bad << " -> " << got;
    EXPECT_NE(got.find("two vertices"), got.npos) << bad;
  }
}

TEST(BenchReadGraph, FormIsToldByTheFirstLine) {
  const std::string path = testing::temporary_file("graph.txt");
  std::ofstream(path) << head << "pattern general\n2 2 1\n1 2\n";
  EXPECT_EQ(read_graph(path).targets, (numbers{1}));
  std::ofstream(path) << "5 6\n";
  EXPECT_EQ(read_graph(path).vertices(), 2u);
  std::filesystem::remove(path);
  EXPECT_THROW(read_graph(path), bad_input);
}

}  // namespace
}  // namespace warpheap::bench
