#include "tools/train_config_json.h"

#include <nlohmann/json.hpp>

namespace moecast {

using Json = nlohmann::ordered_json;

namespace {

Json runtime_json(const RuntimeConfig& runtime) {
  Json out = {{"backend", runtime.backend == BackendKind::Cuda ? "cuda" : "cpu"},
              {"timeout", to_text(runtime.timeout)}};
  if (runtime.communicator) {
    out["communicator"] = *runtime.communicator == CommunicatorKind::Nccl ? "nccl" : "staged";
  }
  if (runtime.link) {
    out["link"] = {{"latency", to_text(runtime.link->latency)}, {"bandwidth", to_text(runtime.link->bandwidth)}};
  }
  return out;
}

}  // namespace

Json to_json(const TrainConfig& config, const std::filesystem::path& folder) {
  const OptimizerConfig& optimizer = config.optimizer;
  const auto relative = [&](const std::filesystem::path& path) {
    return std::filesystem::proximate(path, std::filesystem::absolute(folder)).generic_string();
  };
  Json out = {{"name", config.name},
              {"workload", to_json(config.workload)},
              {"training",
               {{"text", relative(config.text)},
                {"steps", config.steps},
                {"seed", config.seed},
                {"learning_rate", optimizer.learning_rate},
                {"warmup_steps", optimizer.warmup_steps},
                {"min_learning_rate", optimizer.min_learning_rate},
                {"weight_decay", optimizer.weight_decay},
                {"gradient_clip", optimizer.gradient_clip},
                {"beta1", optimizer.beta1},
                {"beta2", optimizer.beta2},
                {"epsilon", optimizer.epsilon}}},
              {"runtime", runtime_json(config.runtime)}};
  if (config.checkpoint) {
    out["checkpoint"] = to_json(*config.checkpoint);
    out["checkpoint"]["folder"] = relative(config.checkpoint->folder);
  }
  if (!config.faults.empty()) out["faults"] = to_json(config.faults);
  return out;
}

}  // namespace moecast
