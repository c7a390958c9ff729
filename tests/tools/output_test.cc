#include "tools/output.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/tools/program_testing.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_program::TestFolder;

TEST(OutputFolder, AppearsWholeOnCommit) {
  const TestFolder folder;
  Result<OutputFolder> output = OutputFolder::create(folder.path() / "a" / "run", false);
  ASSERT_TRUE(output.ok()) << output.error().text();
  ASSERT_TRUE(output->write("summary.json", "{}\n").ok());
  EXPECT_FALSE(fs::exists(folder.path() / "a" / "run"));
  ASSERT_TRUE(output->commit().ok());
  EXPECT_EQ(*read_file(folder.path() / "a" / "run" / "summary.json"), "{}\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path() / "a"), fs::directory_iterator()), 1);
}

TEST(OutputFolder, LeavesNothingBehindWithoutCommit) {
  const TestFolder folder;
  {
    Result<OutputFolder> output = OutputFolder::create(folder.path() / "run", false);
    ASSERT_TRUE(output.ok());
    ASSERT_TRUE(output->write("summary.json", "{}").ok());
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(OutputFolder, ReplacesOnlyAResultFolderAndOnlyWhenTold) {
  const TestFolder folder;
  folder.file("run/timeline.json", "old");
  folder.file("other/thesis.txt", "mine");
  folder.file("file", "mine");
  EXPECT_FALSE(OutputFolder::create(folder.path() / "run", false).ok());
  EXPECT_FALSE(OutputFolder::create(folder.path() / "other", true).ok());
  EXPECT_FALSE(OutputFolder::create(folder.path() / "file", true).ok());
  EXPECT_EQ(OutputFolder::create(folder.path() / "run", false).error().kind, ErrorKind::BadInput);

  Result<OutputFolder> output = OutputFolder::create(folder.path() / "run", true);
  ASSERT_TRUE(output.ok()) << output.error().text();
  ASSERT_TRUE(output->write("summary.json", "new").ok());
  EXPECT_EQ(*read_file(folder.path() / "run" / "timeline.json"), "old");
  ASSERT_TRUE(output->commit().ok());
  EXPECT_FALSE(fs::exists(folder.path() / "run" / "timeline.json"));
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"file", "other", "run"}));
}

TEST(OutputFolder, TakesAnEmptyFolderAndATrailingSlash) {
  const TestFolder folder;
  fs::create_directories(folder.path() / "run");
  Result<OutputFolder> output = OutputFolder::create(folder.path() / "run/", false);
  ASSERT_TRUE(output.ok()) << output.error().text();
  ASSERT_TRUE(output->write("summary.json", "x").ok());
  ASSERT_TRUE(output->commit().ok());
  EXPECT_TRUE(fs::exists(folder.path() / "run" / "summary.json"));
}

TEST(OutputFile, IsCheckedBeforeTheWork) {
  const TestFolder folder;
  folder.file("there", "x");
  EXPECT_TRUE(check_output_file(folder.path() / "new" / "a.json", false).ok());
  EXPECT_FALSE(check_output_file(folder.path() / "there", false).ok());
  EXPECT_TRUE(check_output_file(folder.path() / "there", true).ok());
  EXPECT_FALSE(check_output_file(folder.path(), true).ok());
  EXPECT_FALSE(check_output_file(folder.path() / "there" / "a.json", false).ok());
}

}  // namespace
}  // namespace moecast
