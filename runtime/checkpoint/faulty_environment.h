#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "runtime/checkpoint/environment.h"

namespace moecast {

/// When an environment misbehaves. Operations that change something are counted from 0: create, append, sync, rename,
/// sync_folder, remove, create_folders.
struct StorageFaults {
  std::optional<std::int64_t> fail_at = std::nullopt;  // this operation fails, later ones work
  /// The process is dead from this operation on: it does not happen (an append happens by half), and neither does
  /// anything after it.
  std::optional<std::int64_t> stop_at = std::nullopt;
  std::optional<std::int64_t> flip_at = std::nullopt;  // if this operation is an append, one bit of it is turned over
  bool flip_all = false;                               // so does one bit of every append
  std::optional<Bytes> capacity = std::nullopt;        // appends beyond this many bytes find the storage full
  std::optional<BytesPerSecond> rate = std::nullopt;   // appends take at least bytes / rate
};

/// Passes everything on to another environment, which outlives it, with faults by schedule: for tests over the one in
/// memory, and for fault injection into real runs over the real one. The files it made must not outlive it.
class FaultyEnvironment final : public Environment {
 public:
  FaultyEnvironment(Environment& inner, const StorageFaults& faults) : inner_(inner), faults_(faults) {}

  void set_faults(const StorageFaults& faults);  // operations go on being counted
  [[nodiscard]] std::int64_t operation_count() const;
  /// Appends wait between these two calls: "the disk is slow", without a clock.
  void hold_appends();
  void release_appends();

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
  enum class Fate { Works, Fails, Flips, Stops, IsDead };
  /// Counts one operation.
  [[nodiscard]] Fate next();
  [[nodiscard]] Status change(const std::filesystem::path& path);  // an operation without data
  [[nodiscard]] Status alive(const std::filesystem::path& path) const;
  [[nodiscard]] Status append(OutputFile& file, const std::filesystem::path& path, std::span<const std::byte> data);
  /// How much of `size` still fits; takes it.
  [[nodiscard]] std::size_t take_space(std::size_t size);
  [[nodiscard]] StorageFaults wait_for_release();

  Environment& inner_;
  mutable std::mutex mutex_;
  std::condition_variable released_;
  StorageFaults faults_;
  std::int64_t operations_ = 0;
  std::int64_t bytes_ = 0;  // appended so far
  bool held_ = false;
  bool stopped_ = false;
};

}  // namespace moecast
