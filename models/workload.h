#pragma once

#include <cstdint>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"
#include "models/schedule.h"
#include "models/step_plan.h"

namespace moecast {

/// What is trained, on how many ranks, in which batches and in which order: all that a real and a simulated run share.
struct Workload {
  MoeModel model;
  ParallelLayout layout = {};
  Batch batch = {};
  Schedule schedule = {};
  std::int64_t bytes_per_element = 4;  // of activations and of what travels: "precision" f32, bf16 (2) or f64 (8)
  StepTask task = StepTask::Training;  // "task": training, prefill or decode
  bool experts_on_host = false;        // as in StepPlanRequest

  friend bool operator==(const Workload&, const Workload&) = default;
};

/// Reads the object "workload" of `parent`. "model" is a path relative to the file in which it stands, or an object.
/// Problems go to the reader, those of a model file with that file's name. Checks the layout, that the experts of every
/// block divide among the expert ranks, and that the sequence fits the model; what a schedule demands of a model is
/// build_step_plan's to say.
[[nodiscard]] Workload read_workload(JsonReader& parent);

/// Fully resolved, the model inline: reads back to the same workload as the object "workload".
[[nodiscard]] nlohmann::ordered_json to_json(const Workload& workload);

/// Refers to `workload`, which must outlive it.
[[nodiscard]] StepPlanRequest request_of(const Workload& workload, OperatorTime operator_time = {});
StepPlanRequest request_of(Workload&& workload, OperatorTime operator_time = {}) = delete;

}  // namespace moecast
