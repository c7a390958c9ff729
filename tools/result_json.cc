#include "tools/result_json.h"

#include <cmath>

#include <nlohmann/json.hpp>

namespace moecast {

using Json = nlohmann::ordered_json;

Json to_json(const StepMetrics& metrics) {
  return {{"step_time_ns", metrics.step_time.count()},
          {"compute_ns", metrics.compute.count()},
          {"communication_ns", metrics.communication.count()},
          {"exposed_ns", metrics.exposed.count()},
          {"all_to_all_ns", metrics.all_to_all.count()},
          {"exposed_all_to_all_ns", metrics.exposed_all_to_all.count()},
          {"overlap", metrics.overlap},
          {"communication_share", metrics.communication_share}};
}

Json to_json(const std::vector<OperatorMetrics>& operators) {
  Json out = Json::array();
  for (const OperatorMetrics& each : operators) {
    out.push_back({{"kind", to_text(each.kind)},
                   {"phase", to_text(each.phase)},
                   {"count_per_step", each.count_per_step},
                   {"total_per_step_ns", each.total_per_step.count()}});
  }
  return out;
}

Json to_json(const Comparison& comparison) {
  Json operators = Json::array();
  for (const OperatorComparison& each : comparison.operators) {
    operators.push_back({{"kind", to_text(each.kind)},
                         {"phase", to_text(each.phase)},
                         {"measured_ns", each.measured.count()},
                         {"predicted_ns", each.predicted.count()}});
  }
  return {{"step_time_error", comparison.step_time_error},
          {"measured_quartiles_ns",
           {comparison.measured_quartiles.low.count(), comparison.measured_quartiles.high.count()}},
          {"measured", to_json(comparison.measured)},
          {"predicted", to_json(comparison.predicted)},
          {"operators", operators}};
}

}  // namespace moecast
