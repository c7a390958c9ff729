#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "models/timeline_json.h"

namespace moecast {

/// Loss of a training run, one value a step, in nats.
struct LossCurve {
  std::vector<double> loss;
  double unigram_entropy = 0;
  double validation_loss = 0;
};

/// A run that `moecast train` or `moecast simulate` wrote.
struct RunResult {
  std::filesystem::path path;  // as the user gave it
  RecordedTimeline recorded;
  std::optional<LossCurve> curve = std::nullopt;  // training runs only

  [[nodiscard]] const std::string& name() const { return recorded.info.name; }
  [[nodiscard]] bool measured() const { return recorded.info.command == "train"; }
};

/// Is it a result folder or a timeline (and not, say, a scenario)? A missing path counts as one: load_run says why.
[[nodiscard]] bool is_run(const std::filesystem::path& path);

/// `path` is a result folder or its timeline.json; the metrics.json beside it gives the losses. BadInput with the
/// reason.
[[nodiscard]] Result<RunResult> load_run(const std::filesystem::path& path);

}  // namespace moecast
