#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tools/sweep_result.h"

namespace moecast {

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
