#include "tools/shared_data.h"

namespace moecast {

std::filesystem::path shared_folder(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path installed = program.parent_path().parent_path() / "share" / "moecast" / name;
  if (!error && fs::is_directory(installed, error)) return installed;
  return fs::proximate(fs::path(MOECAST_SOURCE_FOLDER) / name, error);
}

}  // namespace moecast
