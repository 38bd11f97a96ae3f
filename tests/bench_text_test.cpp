// Collecting text, and the reference index built from it.
#include "bench/text_corpus.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "bench/command.hpp"
#include "bench/text_index_reference.hpp"
#include "tests/temporary_files.hpp"

namespace warpheap::bench {
namespace {

class BenchText : public testing::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    std::filesystem::create_directory(directory_ / "sub");
  }
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = FolderTest::write(name, text);
    using enum std::filesystem::perms;
    std::filesystem::permissions(path, owner_read | owner_write | group_read | others_read);
    return path;
  }
  text_corpus load(const corpus_limits& limits = {}) const {
    return load_text_corpus({directory_.string()}, limits, {});
  }
};

TEST_F(BenchText, FilesInTheOrderOfTheirPaths) {
  write("b", "second");
  write("a", "first ");
  write("sub/c", "third");
  const auto corpus = load();
  ASSERT_EQ(corpus.files(), 3u);
  EXPECT_EQ(corpus.text, "first secondthird");
  EXPECT_EQ(corpus.file(1), "second");
  EXPECT_TRUE(corpus.paths[2].ends_with("sub/c"));
}

TEST_F(BenchText, LinksPrivateAndBinaryFilesAreLeftOut) {
  write("text", "words");
  std::filesystem::create_symlink(directory_ / "text", directory_ / "link");
  std::filesystem::create_directory_symlink(directory_, directory_ / "sub" / "loop");
  write("zeros", std::string("a\0b", 3));
  write("controls", "\x01\x02\x03\x04");
  write("empty", "");
  write("picture.png", "words");
  std::filesystem::permissions(write("private", "secret"), std::filesystem::perms::owner_read);
  const auto corpus = load();
  ASSERT_EQ(corpus.files(), 1u);
  EXPECT_EQ(corpus.text, "words");
}

TEST_F(BenchText, CompressedFiles) {
  const std::string plain = write("changelog", "entry one");
  if (!read_command({"gzip", plain}, [](std::string_view) { return true; })) GTEST_SKIP();
  write("broken.gz", "no gzip");
  const auto corpus = load();
  ASSERT_EQ(corpus.files(), 1u);
  EXPECT_EQ(corpus.text, "entry one");
}

TEST_F(BenchText, Limits) {
  write("a", std::string(1000, 'a'));
  write("b", std::string(1000, 'b'));
  write("c", std::string(1000, 'c'));
  EXPECT_EQ(load({10'000, 100}).text.size(), 300u);
  const auto corpus = load({1500, 1000});
  EXPECT_EQ(corpus.text.size(), 1500u);
  EXPECT_EQ(corpus.files(), 2u);
}

TEST_F(BenchText, RootsShareTheBytes) {
  write("a", std::string(1000, 'a'));
  write("sub/b", std::string(1000, 'b'));
  const std::string sub = (directory_ / "sub").string();
  const auto corpus = load_text_corpus({sub, "/nonexistent", sub}, {900, 10'000}, {});
  ASSERT_EQ(corpus.files(), 2u);
  EXPECT_EQ(corpus.file(0).size(), 300u);
  EXPECT_EQ(corpus.file(1).size(), 600u);
}

TEST(BenchTextIndex, WordsAndPlaces) {
  text_corpus corpus;
  corpus.paths = {"one", "two"};
  corpus.text = "The cat, the CAT2!\xc3\xa9t\xc3\xa9 cat";
  corpus.offsets = {0, 18, static_cast<std::uint32_t>(corpus.text.size())};
  const auto index = build_reference_index(corpus);
  EXPECT_EQ(index.size(), 4u);
  EXPECT_EQ(index.at("the"), (std::vector<posting>{{0, 0}, {0, 9}}));
  EXPECT_EQ(index.at("cat"), (std::vector<posting>{{0, 4}, {1, 6}}));
  EXPECT_EQ(index.at("cat2"), (std::vector<posting>{{0, 13}}));
  EXPECT_EQ(index.at("\xc3\xa9t\xc3\xa9"), (std::vector<posting>{{1, 0}}));
}

TEST(BenchTextIndex, PiecesCoverEveryFile) {
  text_corpus corpus;
  corpus.paths = {"one", "two"};
  corpus.text = std::string(25, 'x');
  corpus.offsets = {0, 10, 25};
  const auto pieces = cut_into_pieces(corpus, 10);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].end, 10u);
  EXPECT_EQ(pieces[1].file, 1u);
  EXPECT_EQ(pieces[1].begin, 10u);
  EXPECT_EQ(pieces[2].end, 25u);
  EXPECT_EQ(pieces[2].file_begin, 10u);
}

}  // namespace
}  // namespace warpheap::bench
