#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/random.h"
#include "runtime/checkpoint/environment.h"

namespace moecast {

/// A file system in memory that knows what a loss of power may take: everything that was not synced. File contents
/// become durable by OutputFile::sync, names by sync_folder, independently of each other.
class MemoryEnvironment final : public Environment {
 public:
  /// What survives a loss of power of that which was not synced.
  enum class Survival {
    Nothing,
    Everything,
    Random,  // each name change and each append survives, is lost, or (appends) is torn or holds garbage, by coin
  };

  /// The file system after the power came back. Files that are open here stay as they are.
  [[nodiscard]] std::unique_ptr<MemoryEnvironment> after_power_loss(Survival survival, std::uint64_t seed) const;
  /// Turns one bit of a file over, as a bad disk does; `bit` counts from the file's first bit.
  void flip_bit(const std::filesystem::path& path, std::int64_t bit);
  /// Cuts a file off or (with zeros) lengthens it.
  void resize(const std::filesystem::path& path, Bytes size);

  [[nodiscard]] Status create_folders(const std::filesystem::path& folder) override;
  [[nodiscard]] Result<std::unique_ptr<OutputFile>> create(const std::filesystem::path& path) override;
  [[nodiscard]] Status rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  [[nodiscard]] Status sync_folder(const std::filesystem::path& folder) override;
  [[nodiscard]] Status remove(const std::filesystem::path& path) override;
  [[nodiscard]] Result<std::optional<std::vector<std::string>>> list(const std::filesystem::path& folder) override;
  [[nodiscard]] Result<std::optional<Bytes>> size(const std::filesystem::path& path) override;
  [[nodiscard]] Status read(const std::filesystem::path& path, Bytes offset, std::span<std::byte> out) override;
  [[nodiscard]] Result<Bytes> free_space(const std::filesystem::path& folder) override;

 private:
  class File;
  /// `content` is what readers see; `durable` what a loss of power leaves for certain.
  struct Inode {
    std::string content;
    std::string durable;
    std::vector<std::size_t> unsynced_ends;  // end of each append after the last sync
  };
  struct NameChange {
    std::string removed;  // "" if none
    std::string added;    // "" if none
    std::shared_ptr<Inode> inode;
  };
  using Names = std::map<std::string, std::shared_ptr<Inode>>;
  struct Folder {
    Names names;
    Names durable;
    std::vector<NameChange> unsynced;
  };

  [[nodiscard]] Folder* find_folder(const std::filesystem::path& path);
  [[nodiscard]] std::shared_ptr<Inode> find(const std::filesystem::path& path);
  static void apply(Names& names, const NameChange& change);
  static std::string surviving(const Inode& inode, Survival survival, const CounterRandom& random,
                               std::uint64_t entity);

  mutable std::mutex mutex_;
  std::map<std::string, Folder> folders_;  // by normal path without a slash at the end
};

}  // namespace moecast
