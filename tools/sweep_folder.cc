#include "tools/sweep_folder.h"

#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tools/command.h"
#include "tools/output.h"

namespace moecast {

namespace fs = std::filesystem;

Result<SweepFolder> SweepFolder::open(const fs::path& path, bool replace) {
  const SweepFolder folder(path);
  std::error_code error;
  const bool goes_on = fs::exists(folder.journal(), error) && !replace;
  if (!goes_on) RETURN_IF_ERROR(check_output_folder(path, replace));
  fs::create_directories(path, error);
  if (error)
    return Error{ErrorKind::BadInput, path.string(), fmt::format("cannot make this folder: {}", error.message())};
  if (access(path.c_str(), W_OK | X_OK) != 0) {
    return Error{ErrorKind::BadInput, path.string(),
                 fmt::format("cannot be written: {}", std::error_code(errno, std::generic_category()).message())};
  }
  if (replace) {
    for (const std::string& name : result_file_names()) fs::remove(path / name, error);
  }
  return folder;
}

Status SweepFolder::finish(const SweepResult& result) const {
  const std::vector<const SweepRow*> rows = result.rows.newest();
  if (const SweepRow* best = best_row(result.spec, rows)) {
    const std::int64_t id = best->request.point;
    const Result<SweepScenario> scenario = point_scenario(result.spec, result.points[static_cast<std::size_t>(id)], id);
    if (!scenario.ok()) return scenario.error();
    RETURN_IF_ERROR(write_file_atomically(path_ / "scenario.json", to_json_text(to_json(*scenario))));
  }
  RETURN_IF_ERROR(write_file_atomically(path_ / "sweep.json", to_json_text(sweep_json(result.spec))));
  RETURN_IF_ERROR(write_file_atomically(path_ / "results.csv", results_csv(result)));
  RETURN_IF_ERROR(write_file_atomically(path_ / "results.jsonl", results_jsonl(result)));
  RETURN_IF_ERROR(write_file_atomically(path_ / "summary.json", to_json_text(summary_json(result))));
  std::error_code error;
  fs::remove(journal(), error);
  return {};
}

}  // namespace moecast
