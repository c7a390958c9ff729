#pragma once

#include <filesystem>
#include <string>

namespace moecast {

/// Where a folder that comes with moecast lies ("experiments"): <folder of the executable>/../share/moecast, else the
/// source tree that the program was built from.
[[nodiscard]] std::filesystem::path shared_folder(const std::string& name);

}  // namespace moecast
