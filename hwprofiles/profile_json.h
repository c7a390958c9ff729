#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "base/result.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// A profile file (format: hwprofiles/README.md). Problems go to the reader: wrong shapes, grids that do not ascend,
/// and numbers of "device", "node", "interference" and "fit" without an entry in "sources". Pointers in "sources" count
/// from the profile's own object, wherever it stands.
[[nodiscard]] HardwareProfile read_profile(JsonReader& reader);
/// The file with what it extends. BadInput with every problem.
[[nodiscard]] Result<HardwareProfile> load_profile(const std::filesystem::path& path);

/// Reads back to the same profile. Sizes of memory curves and link buffers are written as whole bytes.
[[nodiscard]] nlohmann::ordered_json to_json(const HardwareProfile& profile);
/// The same as text for files: objects indented, each curve and each row of a table on one line.
[[nodiscard]] std::string to_json_text(const HardwareProfile& profile);

/// `name_or_path` without a "/" and without ".json" is a built-in profile; else a file, relative to the folder
/// `relative_to`. BadInput names the built-in profiles.
[[nodiscard]] Result<HardwareProfile> find_profile(std::string_view name_or_path,
                                                   const std::filesystem::path& relative_to);
/// Names of the profiles that come with moecast, sorted: <folder of the executable>/../share/moecast/profiles, then the
/// source tree that the program was built from.
[[nodiscard]] std::vector<std::string> built_in_profiles();

}  // namespace moecast
