#include "base/file.h"

#include <gtest/gtest.h>

namespace moecast {
namespace {

namespace fs = std::filesystem;

class File : public testing::Test {
 protected:
  File() : folder_(fs::path(testing::TempDir()) / fs::path("moecast_file_test")) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~File() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(File, ReadsBackWhatWasWrittenAndReplacesTheOld) {
  const fs::path path = folder_ / "a.bin";
  const std::string content("zero\0inside\n", 12);
  ASSERT_TRUE(write_file_atomically(path, "old and longer than the new one").ok());
  ASSERT_TRUE(write_file_atomically(path, content).ok());
  EXPECT_EQ(*read_file(path), content);
}

TEST_F(File, LeavesNothingBehindWhenItCannotWrite) {
  fs::create_directories(folder_ / "taken");
  const Status status = write_file_atomically(folder_ / "taken", "x");  // a folder stands there: rename fails
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::RunFailed);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
  EXPECT_FALSE(write_file_atomically(folder_ / "missing" / "a", "x").ok());
}

TEST_F(File, WhatCannotBeReadIsBadInputWithTheReason) {
  const Result<std::string> missing = read_file(folder_ / "none.txt");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind, ErrorKind::BadInput);
  EXPECT_NE(missing.error().text().find("No such file"), std::string::npos) << missing.error().text();
  EXPECT_FALSE(read_file(folder_).ok());
}

}  // namespace
}  // namespace moecast
