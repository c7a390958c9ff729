#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "models/checkpoint/plan_document.h"
#include "sim/campaign/campaign_expectation.h"
#include "sim/expectation.h"

namespace moecast {

/// A published value and ours.
struct ReproducedValue {
  std::string file;                                                      // of the scenario, relative to the folder
  std::string name;                                                      // of the scenario
  std::variant<Expectation, JudgedExpectation, JudgedPlan> expectation;  // of a step, a campaign, checkpoint sizes
  double published = 0;
  double ours = 0;       // seconds or a ratio; of a campaign the mean over its replicas
  double deviation = 0;  // (ours - published) / published; 0 for 0 against 0, infinite for anything else against 0
  Judgement judgement = Judgement::Fail;
};

/// What a scenario's operators took: the times behind its values.
struct ReproducedOperators {
  std::string file, name;
  std::vector<OperatorMetrics> operators;
};

struct Reproduction {
  std::vector<ReproducedValue> values;         // by file, then in the file's order
  std::vector<ReproducedOperators> scenarios;  // of a step, that expect something; by file
  [[nodiscard]] std::size_t count(Judgement judgement) const;
};

/// Runs every scenario and every campaign, and sizes every checkpoint plan, with an "expect" block under `folder` (or
/// the one file given). On `thread_count` threads; the result does not depend on it. BadInput with the problems of all
/// files, or if no file expects anything.
[[nodiscard]] Result<Reproduction> reproduce(const std::filesystem::path& folder, std::int64_t thread_count = 1);

/// One line for each value: scenario, metric, published, ours, deviation, tolerance, judgement (pass, known or FAIL);
/// below it why the known ones deviate.
[[nodiscard]] std::string to_table(const Reproduction& reproduction);
/// One line for each kind of operator and phase of each scenario of a step: how often, how long together.
[[nodiscard]] std::string operators_table(const Reproduction& reproduction);
[[nodiscard]] nlohmann::ordered_json to_json(const Reproduction& reproduction);

}  // namespace moecast
