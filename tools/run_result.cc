#include "tools/run_result.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_document.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Error bad_metrics(const fs::path& path) {
  return Error{ErrorKind::BadInput, path.string(),
               "expected the metrics that moecast train writes, found other content"};
}

/// The losses in metrics.json; none if the file has none (a simulated run).
Result<std::optional<LossCurve>> load_curve(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::optional<LossCurve>();
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  const Json& json = document->json();
  if (!json.is_object()) return bad_metrics(path);
  const auto loss = json.find("loss");
  const auto entropy = json.find("unigram_entropy");
  if (loss == json.end()) return std::optional<LossCurve>();
  const auto validation = json.find("validation_loss");
  const auto is_number = [&](const auto& value) { return value != json.end() && value->is_number(); };
  if (!loss->is_array() || !is_number(entropy) || !is_number(validation)) return bad_metrics(path);
  LossCurve curve{{}, entropy->get<double>(), validation->template get<double>()};
  for (const Json& value : *loss) {
    if (!value.is_number()) return bad_metrics(path);
    curve.loss.push_back(value.get<double>());
  }
  return std::optional(std::move(curve));
}

}  // namespace

bool is_run(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return true;
  const Result<std::string> text = read_file(path);
  return text.ok() && text->find("\"traceEvents\"") != std::string::npos;
}

Result<RunResult> load_run(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const fs::path timeline = folder ? path / "timeline.json" : path;
  Result<RecordedTimeline> recorded = read_timeline(timeline);
  if (!recorded.ok()) return recorded.error();
  RunResult out{path, std::move(recorded).value()};
  Result<std::optional<LossCurve>> curve = load_curve(timeline.parent_path() / "metrics.json");
  if (!curve.ok()) return curve.error();
  out.curve = std::move(curve).value();
  return out;
}

}  // namespace moecast
