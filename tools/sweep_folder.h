#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tools/sweep_result.h"

namespace moecast {

/// Where a sweep's results go. While it runs the folder holds a journal alone, so that a killed sweep goes on; results
/// come at the end, and the journal goes last.
class SweepFolder {
 public:
  /// Makes the folder, or takes the one in which an earlier run has left its journal. BadInput if something else is
  /// there; `replace` throws away results, and a journal too.
  [[nodiscard]] static Result<SweepFolder> open(const std::filesystem::path& path, bool replace);

  [[nodiscard]] std::filesystem::path journal() const { return path_ / "journal"; }
  /// Writes every file, then removes the journal.
  [[nodiscard]] Status finish(const SweepResult& result) const;

 private:
  explicit SweepFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace moecast
