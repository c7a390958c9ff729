#include <gtest/gtest.h>

#include "runtime/checkpoint/faulty_environment.h"
#include "runtime/checkpoint/memory_environment.h"

namespace moecast {
namespace {

using Survival = MemoryEnvironment::Survival;

std::vector<std::string> names(Environment& environment) { return environment.list("d").value().value(); }

TEST(MemoryEnvironmentFault, ASyncedFileWithoutASyncedNameIsLost) {
  MemoryEnvironment environment;
  ASSERT_TRUE(environment.create_folders("d").ok());
  ASSERT_TRUE(write_synced(environment, "d/a", "content").ok());
  EXPECT_TRUE(names(*environment.after_power_loss(Survival::Nothing, 1)).empty());
  EXPECT_EQ(names(*environment.after_power_loss(Survival::Everything, 1)), std::vector<std::string>{"a"});
  ASSERT_TRUE(environment.sync_folder("d").ok());
  EXPECT_EQ(read_all(*environment.after_power_loss(Survival::Nothing, 1), "d/a").value(), "content");
}

TEST(MemoryEnvironmentFault, ASyncedNameWithoutSyncedContentIsEmpty) {
  MemoryEnvironment environment;
  ASSERT_TRUE(environment.create_folders("d").ok());
  const auto file = environment.create("d/a").value().release();
  const std::unique_ptr<OutputFile> owner(file);
  ASSERT_TRUE(file->append(bytes_of("content")).ok());
  ASSERT_TRUE(environment.sync_folder("d").ok());
  EXPECT_EQ(read_all(*environment.after_power_loss(Survival::Nothing, 1), "d/a").value(), "");
  EXPECT_EQ(read_all(environment, "d/a").value(), "content");
}

TEST(MemoryEnvironmentFault, ARenameIsLostOrKeptButNeverHalf) {
  bool old_seen = false;
  bool new_seen = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    MemoryEnvironment environment;
    ASSERT_TRUE(environment.create_folders("d").ok());
    ASSERT_TRUE(write_synced(environment, "d/old", "content").ok());
    ASSERT_TRUE(environment.sync_folder("d").ok());
    ASSERT_TRUE(environment.rename("d/old", "d/new").ok());
    const auto after = environment.after_power_loss(Survival::Random, seed);
    ASSERT_EQ(names(*after).size(), 1U);
    old_seen = old_seen || names(*after)[0] == "old";
    new_seen = new_seen || names(*after)[0] == "new";
    EXPECT_EQ(read_all(*after, std::filesystem::path("d") / names(*after)[0]).value(), "content");
  }
  EXPECT_TRUE(old_seen);
  EXPECT_TRUE(new_seen);
}

TEST(MemoryEnvironmentFault, UnsyncedAppendsAreTornLostAndGarbled) {
  bool torn = false;
  bool whole = false;
  bool hole = false;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    MemoryEnvironment environment;
    ASSERT_TRUE(environment.create_folders("d").ok());
    const std::unique_ptr<OutputFile> file = environment.create("d/a").value();
    ASSERT_TRUE(file->append(bytes_of("synced")).ok());
    ASSERT_TRUE(file->sync().ok());
    ASSERT_TRUE(environment.sync_folder("d").ok());
    ASSERT_TRUE(file->append(bytes_of("12345678")).ok());
    ASSERT_TRUE(file->append(bytes_of("abcdefgh")).ok());
    const std::string left = read_all(*environment.after_power_loss(Survival::Random, seed), "d/a").value();
    ASSERT_TRUE(left.starts_with("synced")) << left;
    whole = whole || left == "synced12345678abcdefgh";
    torn = torn || (left.size() > 6 && left.size() < 14);
    hole = hole || left == std::string("synced\0\0\0\0\0\0\0\0abcdefgh", 22);
  }
  EXPECT_TRUE(whole);
  EXPECT_TRUE(torn);
  EXPECT_TRUE(hole);
}

TEST(FaultyEnvironmentFault, StopsAtTheChosenOperationAndStaysDead) {
  MemoryEnvironment memory;
  ASSERT_TRUE(memory.create_folders("d").ok());
  StorageFaults faults;
  faults.stop_at = 1;
  FaultyEnvironment environment(memory, faults);
  const Result<std::unique_ptr<OutputFile>> file = environment.create("d/a");
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE(file.value()->append(bytes_of("12345678")).ok());
  EXPECT_FALSE(file.value()->append(bytes_of("12345678")).ok());
  EXPECT_FALSE(file.value()->sync().ok());
  EXPECT_FALSE(environment.list("d").ok());
  EXPECT_FALSE(environment.create("d/b").ok());
  EXPECT_EQ(read_all(memory, "d/a").value(), "1234");  // the dying append happened by half
}

TEST(FaultyEnvironmentFault, FailsOnceAndTheFileStaysFailed) {
  MemoryEnvironment memory;
  ASSERT_TRUE(memory.create_folders("d").ok());
  StorageFaults faults;
  faults.fail_at = 2;
  FaultyEnvironment environment(memory, faults);
  const Result<std::unique_ptr<OutputFile>> file = environment.create("d/a");
  ASSERT_TRUE(file.value()->append(bytes_of("1")).ok());
  EXPECT_FALSE(file.value()->sync().ok());
  EXPECT_FALSE(file.value()->sync().ok());  // never tried again
  EXPECT_TRUE(write_synced(environment, "d/b", "2").ok());
  EXPECT_EQ(environment.operation_count(), 6);
}

TEST(FaultyEnvironmentFault, FillsUpInTheMiddleOfAnAppend) {
  MemoryEnvironment memory;
  ASSERT_TRUE(memory.create_folders("d").ok());
  StorageFaults faults;
  faults.capacity = Bytes(10);
  FaultyEnvironment environment(memory, faults);
  EXPECT_EQ(environment.free_space("d").value(), Bytes(10));
  const std::unique_ptr<OutputFile> file = environment.create("d/a").value();
  ASSERT_TRUE(file->append(bytes_of("123456")).ok());
  const Status full = file->append(bytes_of("789abc"));
  ASSERT_FALSE(full.ok());
  EXPECT_TRUE(full.error().message.starts_with(kStorageFull));
  EXPECT_EQ(full.error().kind, ErrorKind::RunFailed);
  EXPECT_EQ(read_all(memory, "d/a").value(), "123456789a");
}

TEST(FaultyEnvironmentFault, TurnsOneBitOver) {
  MemoryEnvironment memory;
  ASSERT_TRUE(memory.create_folders("d").ok());
  StorageFaults faults;
  faults.flip_at = 1;
  FaultyEnvironment environment(memory, faults);
  ASSERT_TRUE(write_synced(environment, "d/a", "0000").ok());
  EXPECT_EQ(read_all(memory, "d/a").value(), "0010");
}

}  // namespace
}  // namespace moecast
