#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace moecast {

/// A new file that grows at its end. Used by one thread at a time. After an error every later call returns that error:
/// a failed sync may have dropped the pages, so it is never tried again; write the file anew under another name.
class OutputFile {
 public:
  virtual ~OutputFile() = default;  // closes; what was not synced may be lost
  [[nodiscard]] virtual Status append(std::span<const std::byte> data) = 0;
  /// The content so far survives a loss of power. The file's name does not before Environment::sync_folder.
  [[nodiscard]] virtual Status sync() = 0;
};

/// What the checkpoint engine asks of a file system, and no more: the seam where tests lose power. Names are never
/// reused and nothing is ever overwritten. Any thread may call. Errors carry the path as their place and one of the
/// messages below.
class Environment {
 public:
  virtual ~Environment() = default;

  /// Makes the folder and its missing parents, durable when this returns. Fine if it is there.
  [[nodiscard]] virtual Status create_folders(const std::filesystem::path& folder) = 0;
  /// A new empty file; kExists if the name is taken.
  [[nodiscard]] virtual Result<std::unique_ptr<OutputFile>> create(const std::filesystem::path& path) = 0;
  /// Atomic within one folder: after a crash the old name or the new one is there, never half of one. kExists if `to`
  /// is taken. Durable only after sync_folder.
  [[nodiscard]] virtual Status rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Names that were created, renamed or removed in the folder before this call stay so after a loss of power.
  [[nodiscard]] virtual Status sync_folder(const std::filesystem::path& folder) = 0;
  /// Fine if there is no such file.
  [[nodiscard]] virtual Status remove(const std::filesystem::path& path) = 0;

  /// Names in the folder, ascending; no value if there is no such folder.
  [[nodiscard]] virtual Result<std::optional<std::vector<std::string>>> list(const std::filesystem::path& folder) = 0;
  /// No value if there is no such file.
  [[nodiscard]] virtual Result<std::optional<Bytes>> size(const std::filesystem::path& path) = 0;
  /// Fills `out` from `offset`; an error if the file ends before.
  [[nodiscard]] virtual Status read(const std::filesystem::path& path, Bytes offset, std::span<std::byte> out) = 0;
  /// What may still be written in the folder's file system.
  [[nodiscard]] virtual Result<Bytes> free_space(const std::filesystem::path& folder) = 0;
};

/// Messages that callers and tests may rely on, in every implementation.
inline constexpr std::string_view kNoPermission = "no permission";
inline constexpr std::string_view kStorageFull = "storage is full";
inline constexpr std::string_view kExists = "exists already";
inline constexpr std::string_view kMissing = "no such file or folder";
inline constexpr std::string_view kTooShort = "the file ends too early";

/// kind BadInput for kNoPermission, kExists and kMissing, else RunFailed. `detail` follows the message, if not empty.
[[nodiscard]] Error environment_error(const std::filesystem::path& path, std::string_view message,
                                      std::string_view detail = {});

[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}
/// The whole file as text.
[[nodiscard]] Result<std::string> read_all(Environment& environment, const std::filesystem::path& path);
/// A new file with this content, synced; its name is not yet durable.
[[nodiscard]] Status write_synced(Environment& environment, const std::filesystem::path& path,
                                  std::string_view content);

}  // namespace moecast
