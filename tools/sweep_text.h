#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/sweep_result.h"
#include "tools/terminal.h"

namespace moecast {

/// Eight heights of block, lowest to highest of the values; values that are not finite are blank.
[[nodiscard]] std::string sparkline(std::span<const double> values);

/// What `moecast sweep` prints: how many points, the best ones with a bar, each axis around the best one as a
/// sparkline, what binds.
[[nodiscard]] std::string sweep_table(const SweepResult& result, const Style& style);

/// In words: which point wins and why, what the second best loses, which constraint binds, and what each axis does
/// around the best point.
struct SweepExplanation {
  std::string headline;
  std::vector<std::string> sentences;
  std::vector<std::string> axes;  // one a line, largest effect first
};
[[nodiscard]] SweepExplanation explain(const SweepResult& result);

/// What `moecast explain` prints.
[[nodiscard]] std::string to_text(const SweepExplanation& explanation);
[[nodiscard]] nlohmann::ordered_json explanation_json(const SweepResult& result);

}  // namespace moecast
