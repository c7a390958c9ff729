#include <functional>
#include <memory>

#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/checkpoint/faulty_environment.h"
#include "runtime/checkpoint/memory_environment.h"
#include "runtime/checkpoint/posix_environment.h"

// One suite over every file system: what the engine relies on.
namespace moecast {
namespace {

namespace fs = std::filesystem;

/// A faulty environment without faults, over one in memory.
class FaultlessEnvironment final : public Environment {
 public:
  FaultlessEnvironment() : faulty_(memory_, {}) {}
  Status create_folders(const fs::path& folder) override { return faulty_.create_folders(folder); }
  Result<std::unique_ptr<OutputFile>> create(const fs::path& path) override { return faulty_.create(path); }
  Status rename(const fs::path& from, const fs::path& to) override { return faulty_.rename(from, to); }
  Status sync_folder(const fs::path& folder) override { return faulty_.sync_folder(folder); }
  Status remove(const fs::path& path) override { return faulty_.remove(path); }
  Result<std::optional<std::vector<std::string>>> list(const fs::path& folder) override { return faulty_.list(folder); }
  Result<std::optional<Bytes>> size(const fs::path& path) override { return faulty_.size(path); }
  Status read(const fs::path& path, Bytes offset, std::span<std::byte> out) override {
    return faulty_.read(path, offset, out);
  }
  Result<Bytes> free_space(const fs::path& folder) override { return faulty_.free_space(folder); }

 private:
  MemoryEnvironment memory_;
  FaultyEnvironment faulty_;
};

struct Case {
  std::string name;
  std::function<std::unique_ptr<Environment>()> make;
};

class EnvironmentContract : public testing::TestWithParam<Case> {
 protected:
  EnvironmentContract()
      : folder_(fs::path(testing::TempDir()) / fmt::format("moecast_environment_{}_{}", GetParam().name, ::getpid())),
        environment_(GetParam().make()) {
    EXPECT_TRUE(environment_->create_folders(folder_).ok());
  }
  ~EnvironmentContract() override { fs::remove_all(folder_); }

  void write(const fs::path& path, std::string_view content) {
    const Status status = write_synced(*environment_, path, content);
    ASSERT_TRUE(status.ok()) << status.error().text();
  }
  std::string content(const fs::path& path) {
    const Result<std::string> text = read_all(*environment_, path);
    return text.ok() ? text.value() : text.error().text();
  }

  fs::path folder_;
  std::unique_ptr<Environment> environment_;
};

TEST_P(EnvironmentContract, ReadsBackWhatWasAppended) {
  // Several blocks of the direct writer, a tail, and appends after a sync.
  std::string expected;
  Result<std::unique_ptr<OutputFile>> file = environment_->create(folder_ / "a");
  ASSERT_TRUE(file.ok());
  const std::size_t sizes[] = {1, 4095, 5 << 20, 3, 4 << 20, 77777};
  for (const std::size_t size : sizes) {
    std::string part(size, '\0');
    for (std::size_t i = 0; i < size; ++i) part[i] = static_cast<char>((i * 131 + size) % 251);
    expected += part;
    ASSERT_TRUE(file.value()->append(bytes_of(part)).ok());
  }
  ASSERT_TRUE(file.value()->sync().ok());
  EXPECT_EQ(content(folder_ / "a"), expected);
  const std::string more(9 << 20, 'x');
  ASSERT_TRUE(file.value()->append(bytes_of(more)).ok());
  ASSERT_TRUE(file.value()->sync().ok());
  expected += more;
  EXPECT_TRUE(content(folder_ / "a") == expected);
  EXPECT_EQ(**environment_->size(folder_ / "a"), Bytes(static_cast<std::int64_t>(expected.size())));
}

TEST_P(EnvironmentContract, ReadsARangeAndRefusesOneBeyondTheEnd) {
  write(folder_ / "a", "0123456789");
  std::string out(4, ' ');
  ASSERT_TRUE(environment_->read(folder_ / "a", Bytes(3), std::as_writable_bytes(std::span<char>(out))).ok());
  EXPECT_EQ(out, "3456");
  const Status beyond = environment_->read(folder_ / "a", Bytes(7), std::as_writable_bytes(std::span<char>(out)));
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().message, kTooShort);
}

TEST_P(EnvironmentContract, NothingIsEverOverwritten) {
  write(folder_ / "a", "first");
  write(folder_ / "b", "second");
  const Result<std::unique_ptr<OutputFile>> again = environment_->create(folder_ / "a");
  ASSERT_FALSE(again.ok());
  EXPECT_TRUE(again.error().message.starts_with(kExists)) << again.error().text();
  EXPECT_EQ(again.error().place, (folder_ / "a").string());
  const Status renamed = environment_->rename(folder_ / "b", folder_ / "a");
  ASSERT_FALSE(renamed.ok());
  EXPECT_TRUE(renamed.error().message.starts_with(kExists)) << renamed.error().text();
  EXPECT_EQ(content(folder_ / "a"), "first");
  EXPECT_EQ(content(folder_ / "b"), "second");
}

TEST_P(EnvironmentContract, RenameAndRemoveChangeTheListedNames) {
  write(folder_ / "b", "1");
  write(folder_ / "a.tmp", "2");
  ASSERT_TRUE(environment_->create_folders(folder_ / "inner").ok());
  ASSERT_TRUE(environment_->create_folders(folder_ / "inner").ok());
  ASSERT_TRUE(environment_->rename(folder_ / "a.tmp", folder_ / "a").ok());
  ASSERT_TRUE(environment_->sync_folder(folder_).ok());
  EXPECT_EQ(**environment_->list(folder_), (std::vector<std::string>{"a", "b", "inner"}));
  EXPECT_EQ(content(folder_ / "a"), "2");
  ASSERT_TRUE(environment_->remove(folder_ / "b").ok());
  ASSERT_TRUE(environment_->remove(folder_ / "b").ok());
  EXPECT_EQ(**environment_->list(folder_), (std::vector<std::string>{"a", "inner"}));
}

TEST_P(EnvironmentContract, WhatIsMissingIsNoValueOrNamedSo) {
  EXPECT_FALSE(environment_->list(folder_ / "none").value().has_value());
  EXPECT_FALSE(environment_->size(folder_ / "none").value().has_value());
  std::byte out{};
  for (const Status& status :
       {environment_->read(folder_ / "none", Bytes(0), std::span(&out, 1)),
        environment_->rename(folder_ / "none", folder_ / "other"), environment_->sync_folder(folder_ / "none")}) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::BadInput);
    EXPECT_TRUE(status.error().message.starts_with(kMissing)) << status.error().text();
  }
  EXPECT_FALSE(environment_->create(folder_ / "none" / "a").ok());
}

TEST_P(EnvironmentContract, AFileIsNoFolder) {
  write(folder_ / "a", "1");
  const Status status = environment_->create_folders(folder_ / "a");
  ASSERT_FALSE(status.ok());
  EXPECT_TRUE(status.error().message.starts_with(kExists)) << status.error().text();
  EXPECT_FALSE(environment_->size(folder_).ok());
}

TEST_P(EnvironmentContract, KnowsItsFreeSpace) {
  const Result<Bytes> space = environment_->free_space(folder_);
  ASSERT_TRUE(space.ok());
  EXPECT_GT(space.value(), Bytes(0));
}

INSTANTIATE_TEST_SUITE_P(
    All, EnvironmentContract,
    testing::Values(
        Case{"Posix", [] { return make_posix_environment(); }},
        Case{"Memory", []() -> std::unique_ptr<Environment> { return std::make_unique<MemoryEnvironment>(); }},
        Case{"Faultless", []() -> std::unique_ptr<Environment> { return std::make_unique<FaultlessEnvironment>(); }}),
    [](const testing::TestParamInfo<Case>& each) { return each.param.name; });

TEST(PosixEnvironmentContract, AFolderWithoutPermissionIsNamedSo) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  const auto environment = make_posix_environment();
  const Status status = environment->create_folders("/moecast_not_allowed");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::BadInput);
  EXPECT_TRUE(status.error().message.starts_with(kNoPermission)) << status.error().text();
}

}  // namespace
}  // namespace moecast
