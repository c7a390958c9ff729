#include "tools/output.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/file.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

Error bad(const fs::path& path, std::string message) {
  return Error{ErrorKind::BadInput, path.string(), std::move(message)};
}

/// Something of this path's that is not ours to delete; "" if it is a result folder.
std::string foreign_content(const fs::path& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::string name = entry.path().filename().string();
    const auto& known = result_file_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) return name;
  }
  return error ? error.message() : std::string();
}

Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return bad(folder, fmt::format("cannot make this folder: {}", error.message()));
  return {};
}

/// "out/run/" and "." have no file name of their own.
fs::path normal(const fs::path& path) {
  fs::path out = fs::absolute(path).lexically_normal();
  return out.has_filename() ? out : out.parent_path();
}

}  // namespace

Status check_output_folder(const fs::path& path, bool replace) {
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  if (!fs::is_directory(path, error)) return bad(path, "expected a folder, found a file");
  if (fs::is_empty(path, error)) return {};
  if (const std::string name = foreign_content(path); !name.empty()) {
    return bad(path, fmt::format("exists and is not a result folder (it holds {}); choose another one", name));
  }
  if (!replace) return bad(path, "exists; --force replaces it");
  return {};
}

const std::vector<std::string>& result_file_names() {
  static const std::vector<std::string> names = {"timeline.json", "metrics.json",    "config.json",   "summary.json",
                                                 "scenario.json", "validation.json", "report.html",   "replicas.csv",
                                                 "sweep.json",    "results.csv",     "results.jsonl", "journal"};
  return names;
}

OutputFolder::OutputFolder(fs::path path, fs::path staging) : path_(std::move(path)), staging_(std::move(staging)) {}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), staging_(std::exchange(other.staging_, fs::path())) {}

OutputFolder::~OutputFolder() {
  std::error_code error;
  if (!staging_.empty()) fs::remove_all(staging_, error);
}

Result<OutputFolder> OutputFolder::create(const fs::path& path, bool replace) {
  RETURN_IF_ERROR(check_output_folder(path, replace));
  const fs::path target = normal(path);
  RETURN_IF_ERROR(make_folder(target.parent_path()));
  std::string pattern = (target.parent_path() / fmt::format(".{}.partial-XXXXXX", target.filename().string())).string();
  if (mkdtemp(pattern.data()) == nullptr) {
    return bad(path, fmt::format("cannot be written: {}", std::error_code(errno, std::generic_category()).message()));
  }
  std::error_code error;
  fs::permissions(pattern,
                  fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec | fs::perms::others_read |
                      fs::perms::others_exec,
                  error);
  return OutputFolder(target, pattern);
}

Status OutputFolder::write(std::string_view name, std::string_view content) {
  return write_file_atomically(staging_ / name, content);
}

Status OutputFolder::commit() {
  std::error_code error;
  const fs::path old = staging_.string() + ".old";
  const bool replaces = fs::exists(path_, error);
  if (replaces) fs::rename(path_, old, error);
  if (!error) fs::rename(staging_, path_, error);
  if (error) {
    std::error_code ignored;
    if (replaces) fs::rename(old, path_, ignored);
    return Error{ErrorKind::RunFailed, path_.string(), fmt::format("cannot be written: {}", error.message())};
  }
  staging_.clear();
  fs::remove_all(old, error);
  return {};
}

Status check_output_file(const fs::path& path, bool replace) {
  std::error_code error;
  if (fs::is_directory(path, error)) return bad(path, "expected a file, found a folder");
  if (fs::exists(path, error) && !replace) return bad(path, "exists; --force replaces it");
  const fs::path folder = normal(path).parent_path();
  RETURN_IF_ERROR(make_folder(folder));
  if (access(folder.c_str(), W_OK) != 0) {
    return bad(path, fmt::format("cannot be written: {}", std::error_code(errno, std::generic_category()).message()));
  }
  return {};
}

}  // namespace moecast
