#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/folder.h"

namespace moecast {

/// What garbage collection leaves.
struct Retention {
  std::int64_t versions = 2;     // the newest ones that can be restored
  std::int64_t unit_copies = 2;  // intact versions of every unit for each of them
  friend bool operator==(const Retention&, const Retention&) = default;
};

struct CollectOptions {
  /// Read every payload before anything older is given up for it. Without: lengths only, enough right after a commit.
  bool verify = false;
  /// Nobody writes to the folder: what an interrupted checkpoint left behind goes, however new.
  bool idle = false;
  bool dry_run = false;
};

struct Garbage {
  std::vector<std::string> removed;  // files, in the order of their removal
  std::size_t first_count = 0;       // so many go first and are synced before the others go
  Bytes bytes{0};                    // payload bytes among them
  std::vector<std::int64_t> kept_versions;
};

/// What could go: everything that no retained version needs. A retained version v needs its own files and, for each
/// unit, the edits of its newest `unit_copies` intact versions up to v (damaged ones in between stay, too). Of edits
/// that are kept for their units alone the non-expert files go. Nothing goes while no version can be restored, and
/// nothing newer than the newest retained version. `damaged`: payload files that are known to be bad.
[[nodiscard]] Garbage find_garbage(const CheckpointFolder& folder, const Retention& retention, bool idle,
                                   const std::vector<std::string>& damaged = {});

/// Removes it: first the edits, and of those that stay for their units the first non-expert file, by which readers see
/// that it is collected; then the others. So a crash leaves nothing that looks damaged.
[[nodiscard]] Result<Garbage> collect_garbage(Environment& environment, const std::filesystem::path& folder,
                                              const Retention& retention, const CollectOptions& options);

}  // namespace moecast
