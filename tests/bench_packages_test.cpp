// Reading Debian's package lists, and the reference graph built from them.
#include "bench/debian_packages.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "bench/command.hpp"
#include "bench/graph_reference.hpp"
#include "tests/temporary_files.hpp"

namespace warpheap::bench {
namespace {

constexpr std::size_t no_limit = 1'000'000;

package_graph read_text(std::string_view text, std::size_t most = no_limit,
                        std::size_t piece = std::string_view::npos) {
  package_reader reader(most);
  while (!text.empty() && reader.feed(text.substr(0, piece)))
    text.remove_prefix(std::min(piece, text.size()));
  reader.end_of_file();
  return reader.finish();
}

// "from>to" for each edge.
std::set<std::string> edges_of(const package_graph& graph) {
  std::set<std::string> out;
  for (std::size_t v = 0; v < graph.vertices(); ++v)
    for (auto e = graph.offsets[v]; e < graph.offsets[v + 1]; ++e)
      out.insert(graph.names[v] + '>' + graph.names[graph.targets[e]]);
  return out;
}

using edge_set = std::set<std::string>;

TEST(BenchPackages, AlternativesVersionsArchitecturesProfiles) {
  const auto graph = read_text(
      "Package: a\n"
      "Version: 1\n"
      "Depends: b (>= 2.0) | c:any (<< 3), d [amd64 !i386] <!nocheck>,e\n"
      "Pre-Depends:f(=1)\n"
      "Recommends: g|h\n"
      "Suggests: never\n"
      "Conflicts: neither\n");
  EXPECT_EQ(edges_of(graph), (edge_set{"a>b", "a>c", "a>d", "a>e", "a>f", "a>g", "a>h"}));
  EXPECT_EQ(graph.packages, 1u);
}

TEST(BenchPackages, ContinuationLinesBelongToTheirField) {
  const auto graph = read_text(
      "Package: a\n"
      "Description: text\n"
      " Depends: nothing, really\n"
      " .\n"
      "Depends: b,\n"
      " c | d,\n"
      "\te\n"
      "Homepage: x\n"
      " f\n");
  EXPECT_EQ(edges_of(graph), (edge_set{"a>b", "a>c", "a>d", "a>e"}));
}

TEST(BenchPackages, ProvidedNamesPointToTheirProviders) {
  const auto graph = read_text(
      "Package: exim\nProvides: mail-agent, mta (= 4)\n\n"
      "Package: postfix\nProvides: mail-agent\n\n"
      "Package: cron\nDepends: mail-agent\n");
  EXPECT_EQ(edges_of(graph),
            (edge_set{"mail-agent>exim", "mail-agent>postfix", "mta>exim", "cron>mail-agent"}));
}

TEST(BenchPackages, EdgesAreSortedAndUnique) {
  const auto graph = read_text(
      "Package: a\nDepends: c, b, c (>= 1)\n\n"
      "Package: a\nDepends: b, d\n");
  EXPECT_EQ(graph.edges(), 3u);
  EXPECT_EQ(graph.packages, 2u);
  ASSERT_EQ(graph.offsets.size(), graph.vertices() + 1);
  EXPECT_EQ(graph.offsets.back(), graph.edges());
  for (std::size_t v = 0; v < graph.vertices(); ++v)
    EXPECT_TRUE(std::is_sorted(graph.targets.begin() + graph.offsets[v],
                               graph.targets.begin() + graph.offsets[v + 1]));
}

TEST(BenchPackages, CaseCarriageReturnsCommentsAndJunk) {
  const auto graph = read_text(
      "\n\n# a comment\n"
      "PACKAGE: a\r\n"
      "depends: b ,, | , c\r\n"
      "no colon here\r\n"
      "\r\n"
      "Depends: without-a-package\n"
      "\n \t \n"
      "Package:\nDepends: nameless\n\n"
      "Package: z\nDepends:\n");
  EXPECT_EQ(edges_of(graph), (edge_set{"a>b", "a>c"}));
  EXPECT_EQ(graph.packages, 2u);
}

TEST(BenchPackages, AnyPieceSizeGivesTheSame) {
  const std::string text =
      "Package: a\nDepends: b,\n c\n\nPackage: b\nProvides: v\n\nPackage: c\n"
      "Recommends: a | v";
  const auto whole = edges_of(read_text(text));
  EXPECT_EQ(whole.size(), 5u);
  for (std::size_t piece = 1; piece < text.size(); ++piece)
    EXPECT_EQ(edges_of(read_text(text, no_limit, piece)), whole) << piece;
}

TEST(BenchPackages, LimitStopsBetweenStanzas) {
  const auto graph =
      read_text("Package: a\nDepends: b\n\nPackage: c\nDepends: d\n\nPackage: e\nDepends: f\n", 2);
  EXPECT_EQ(edges_of(graph), (edge_set{"a>b", "c>d"}));
  EXPECT_EQ(graph.packages, 2u);
}

TEST(BenchPackages, EmptyInput) {
  const auto graph = read_text("");
  EXPECT_EQ(graph.vertices(), 0u);
  EXPECT_EQ(graph.edges(), 0u);
  EXPECT_EQ(graph.offsets.size(), 1u);
}

class BenchPackageFiles : public testing::FolderTest {};

TEST_F(BenchPackageFiles, ListsComeBeforeTheStatusFile) {
  const std::string status = write("status", "Package: s\nDepends: t\n");
  const package_sources where{directory_.string(), status};
  EXPECT_EQ(edges_of(load_package_graph(where, no_limit)), edge_set{"s>t"});

  // The first file ends without an empty line; its last stanza must not run into the next file.
  write("x_b_Packages", "Package: b\nDepends: c\n");
  write("x_a_Packages", "Package: a\nDepends: b");
  write("x_InRelease", "Package: wrong\nDepends: wrong\n");
  write("x_Packages.diff", "Package: wrong\nDepends: wrong\n");
  const auto graph = load_package_graph(where, no_limit);
  EXPECT_EQ(edges_of(graph), (edge_set{"a>b", "b>c"}));
  ASSERT_EQ(graph.sources.size(), 2u);
  EXPECT_TRUE(graph.sources[0].ends_with("x_a_Packages"));
}

TEST_F(BenchPackageFiles, CompressedLists) {
  const std::string plain = write("x_Packages", "Package: a\nDepends: b\n");
  if (!read_command({"gzip", plain}, [](std::string_view) { return true; })) GTEST_SKIP();
  const package_sources where{directory_.string(), "/nonexistent"};
  EXPECT_EQ(edges_of(load_package_graph(where, no_limit)), edge_set{"a>b"});
}

TEST_F(BenchPackageFiles, MissingOrUnreadableFilesGiveAnEmptyGraph) {
  EXPECT_TRUE(find_package_lists("/nonexistent").empty());
  EXPECT_EQ(load_package_graph({"/nonexistent", "/nonexistent"}, no_limit).vertices(), 0u);
  write("x_Packages.gz", "this is no gzip file");
  std::filesystem::create_directories(directory_ / "y_Packages");
  const auto graph = load_package_graph({directory_.string(), "/nonexistent"}, no_limit);
  EXPECT_EQ(graph.vertices(), 0u);
  EXPECT_TRUE(graph.sources.empty());
}

TEST(BenchCommand, DeliversOutputAndStatus) {
  std::string text;
  const byte_sink keep = [&](std::string_view piece) { return text += piece, true; };
  EXPECT_TRUE(read_command({"printf", "%s", "a b'c\"$d"}, keep));
  EXPECT_EQ(text, "a b'c\"$d");
  EXPECT_FALSE(read_command({"false"}, keep));
  EXPECT_FALSE(read_command({"/nonexistent/program"}, keep));
  EXPECT_FALSE(read_plain_file("/nonexistent", keep));
}

TEST(BenchCommand, SinkCanStopAnEndlessProgram) {
  std::size_t got = 0;
  EXPECT_TRUE(read_command({"yes"}, [&](std::string_view piece) {
    got += piece.size();
    return got < 100'000;
  }));
  EXPECT_GE(got, 100'000u);
}

package_graph little_graph() {
  return read_text("Package: a\nDepends: b, c, d\n\nPackage: b\nDepends: c\n\nPackage: e\n");
}

TEST(BenchGraphReference, InsertAndErase) {
  reference_graph graph(little_graph());
  EXPECT_EQ(graph.vertices(), 5u);
  EXPECT_EQ(graph.edges(), 4u);
  EXPECT_FALSE(graph.insert({0, 1}));
  EXPECT_TRUE(graph.insert({4, 0}));
  EXPECT_TRUE(graph.erase({0, 2}));
  EXPECT_FALSE(graph.erase({0, 2}));
  EXPECT_EQ(graph.row(0), (std::vector<std::uint32_t>{1, 3}));
  EXPECT_EQ(graph.edges(), 4u);
}

TEST(BenchGraphReference, BatchesAreGroupedBySourceAndRepeatable) {
  for (const bool inserts : {true, false})
    for (const auto kind : {batch_kind::random_sources, batch_kind::focused_sources}) {
      reference_graph graph(little_graph());
      std::mt19937_64 random(7), same(7);
      const auto batch = make_batch(graph, inserts, kind, 1000, random);
      ASSERT_EQ(batch.updates.size(), 1000u);
      ASSERT_EQ(batch.begins.front(), 0u);
      ASSERT_EQ(batch.begins.back(), 1000u);
      std::set<std::uint32_t> seen;
      for (std::size_t s = 0; s < batch.sources(); ++s) {
        EXPECT_LT(batch.begins[s], batch.begins[s + 1]);
        EXPECT_TRUE(seen.insert(batch.updates[batch.begins[s]].source).second);
        for (auto i = batch.begins[s]; i < batch.begins[s + 1]; ++i)
          EXPECT_EQ(batch.updates[i].source, batch.updates[batch.begins[s]].source);
      }
      const auto again = make_batch(graph, inserts, kind, 1000, same);
      for (std::size_t i = 0; i < 1000; ++i) {
        EXPECT_EQ(batch.updates[i].source, again.updates[i].source);
        EXPECT_EQ(batch.updates[i].target, again.updates[i].target);
      }
      EXPECT_GT(apply(graph, batch), 0u);
    }
}

TEST(BenchGraphReference, BatchesOfGraphsWithoutEdgesOrVertices) {
  std::mt19937_64 random(1);
  reference_graph lonely(read_text("Package: a\n"));
  EXPECT_EQ(make_batch(lonely, false, batch_kind::random_sources, 10, random).updates.size(), 10u);
  reference_graph none(read_text(""));
  const auto batch = make_batch(none, true, batch_kind::focused_sources, 10, random);
  EXPECT_TRUE(batch.updates.empty());
  EXPECT_EQ(batch.sources(), 0u);
}

}  // namespace
}  // namespace warpheap::bench
