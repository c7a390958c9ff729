#include <algorithm>
#include <system_error>

#include <fmt/format.h>

#include "base/nearest.h"
#include "hwprofiles/profile_json.h"
#include "hwprofiles/reliability.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

/// Folders with built-in profiles, the first wins. Those that do not exist are left out.
std::vector<fs::path> profile_folders() {
  std::vector<fs::path> folders;
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(executable.parent_path() / ".." / "share" / "moecast" / "profiles");
  folders.emplace_back(MOECAST_PROFILE_DIR);
  std::erase_if(folders, [&](const fs::path& folder) { return !fs::is_directory(folder, error); });
  return folders;
}

/// `kind`: the sub-folder of the profile folders; "" for hardware.
fs::path built_in_file(const fs::path& kind, const std::string& name) {
  for (const fs::path& folder : profile_folders()) {
    fs::path file = (folder / kind / (name + ".json")).lexically_normal();
    std::error_code error;
    if (fs::is_regular_file(file, error)) return file;
  }
  return {};
}

bool is_file_name(std::string_view text) { return text.find('/') != std::string_view::npos || text.ends_with(".json"); }

std::vector<std::string> built_in_names(const fs::path& kind) {
  std::vector<std::string> names;
  for (const fs::path& folder : profile_folders()) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder / kind, error)) {
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Error no_such_profile(std::string_view what, const std::string& name, const std::vector<std::string>& known) {
  const std::string near = nearest_name(name, known);
  return Error{
      ErrorKind::BadInput, "",
      fmt::format("no {} profile \"{}\": expected a file name (*.json) or one of the built-in profiles {}{}", what,
                  name, fmt::join(known, ", "), near.empty() ? "" : fmt::format(" (did you mean {}?)", near))};
}

}  // namespace

std::vector<std::string> built_in_profiles() { return built_in_names(""); }
std::vector<std::string> built_in_reliability_profiles() { return built_in_names("reliability"); }

Result<HardwareProfile> find_profile(std::string_view name_or_path, const fs::path& relative_to) {
  const std::string name(name_or_path);
  if (is_file_name(name_or_path)) return load_profile((relative_to / name).lexically_normal());
  if (const fs::path file = built_in_file("", name); !name.empty() && !file.empty()) return load_profile(file);
  return no_such_profile("hardware", name, built_in_profiles());
}

Result<ReliabilityProfile> find_reliability(std::string_view name_or_path, const fs::path& relative_to) {
  const std::string name(name_or_path);
  if (is_file_name(name_or_path)) return load_reliability((relative_to / name).lexically_normal());
  const fs::path file = built_in_file("reliability", name);
  if (!name.empty() && !file.empty()) return load_reliability(file);
  return no_such_profile("reliability", name, built_in_reliability_profiles());
}

}  // namespace moecast
