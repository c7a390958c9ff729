#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace moecast {

/// The whole file. BadInput with the reason of the operating system if it cannot be read.
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path);

/// Writes to a temporary name beside `path`, syncs, renames and syncs the folder: readers see the old content or the
/// new, never a half. Parent folders must exist. RunFailed with the operating system's reason; nothing is left behind.
[[nodiscard]] Status write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace moecast
