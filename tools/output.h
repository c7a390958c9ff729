#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace moecast {

/// A result folder that appears whole or not at all: files are written into a hidden folder beside it, which takes its
/// place on commit() and is removed otherwise.
class OutputFolder {
 public:
  /// Claims `path` before the work begins, so that a bad path costs no run. BadInput if it cannot be written to, or if
  /// something is there and `replace` is not set, or if what is there is not a result folder (an empty folder is
  /// always fine).
  [[nodiscard]] static Result<OutputFolder> create(const std::filesystem::path& path, bool replace);

  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();

  /// `name` is one of result_file_names().
  [[nodiscard]] Status write(std::string_view name, std::string_view content);
  [[nodiscard]] Status commit();

 private:
  OutputFolder(std::filesystem::path path, std::filesystem::path staging);
  std::filesystem::path path_;
  std::filesystem::path staging_;  // empty once committed
};

/// The files that make a folder a result folder; only such a folder is ever replaced.
[[nodiscard]] const std::vector<std::string>& result_file_names();

/// Ok if nothing is at `path`, or an empty folder, or, with `replace`, a result folder. BadInput otherwise.
[[nodiscard]] Status check_output_folder(const std::filesystem::path& path, bool replace);

/// Checks, before the work begins, that a file can be written: its folder is made if missing, and something that is
/// there is kept unless `replace` is set. BadInput otherwise. Write it with write_file_atomically.
[[nodiscard]] Status check_output_file(const std::filesystem::path& path, bool replace);

}  // namespace moecast
