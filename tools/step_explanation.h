#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/timeline.h"
#include "sim/critical_path.h"
#include "sim/what_if.h"
#include "tools/terminal.h"

namespace moecast {

/// Why a simulated step takes as long as it does, and what would shorten it.
struct StepExplanation {
  std::vector<PathStep> path;
  std::vector<WhatIf> helps;
};

[[nodiscard]] std::string to_text(const StepExplanation& explanation, const Timeline& timeline, const Style& style);
[[nodiscard]] nlohmann::ordered_json to_json(const StepExplanation& explanation, const Timeline& timeline);

}  // namespace moecast
