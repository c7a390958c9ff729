#include "runtime/trainer/train_config.h"

#include "base/json_reader.h"

namespace moecast {
namespace {

constexpr std::int64_t kMaxSteps = 100'000'000;
constexpr std::int64_t kMaxSeed = 9'007'199'254'740'992;  // 2^53: what every JSON reader keeps exactly
constexpr double kMaxLearningRate = 10;

void read_training(JsonReader& root, TrainConfig& config) {
  JsonReader reader = root.object("training");
  config.text = reader.path("text");
  config.steps = reader.integer("steps", 1, kMaxSteps);
  config.seed = static_cast<std::uint64_t>(reader.integer("seed", 0, kMaxSeed, static_cast<std::int64_t>(config.seed)));
  OptimizerConfig& optimizer = config.optimizer;
  optimizer.learning_rate = reader.number("learning_rate", 0, kMaxLearningRate, optimizer.learning_rate);
  optimizer.warmup_steps = reader.integer("warmup_steps", 0, kMaxSteps, optimizer.warmup_steps);
  optimizer.min_learning_rate = reader.number("min_learning_rate", 0, kMaxLearningRate, optimizer.min_learning_rate);
  optimizer.weight_decay = reader.number("weight_decay", 0, 10, optimizer.weight_decay);
  optimizer.gradient_clip = reader.number("gradient_clip", 0, 1e9, optimizer.gradient_clip);
  optimizer.beta1 = reader.number("beta1", 0, 0.9999999, optimizer.beta1);
  optimizer.beta2 = reader.number("beta2", 0, 0.9999999, optimizer.beta2);
  optimizer.epsilon = reader.number("epsilon", 1e-30, 1, optimizer.epsilon);
  if (optimizer.min_learning_rate > optimizer.learning_rate) {
    reader.problem("min_learning_rate", "out-of-range", fmt::format("at most {}", optimizer.learning_rate),
                   fmt::format("{}", optimizer.min_learning_rate));
  }
}

PacedLink read_link(JsonReader& runtime) {
  JsonReader reader = runtime.object("link");
  PacedLink link;
  link.latency = reader.duration("latency");
  link.bandwidth = reader.bytes_per_second("bandwidth");
  if (reader.good() && link.bandwidth.value() <= 0) {
    reader.problem("bandwidth", "out-of-range", "more than 0 B/s", to_text(link.bandwidth));
  }
  return link;
}

void read_runtime(JsonReader& root, TrainConfig& config) {
  JsonReader reader = root.object("runtime", true);
  const EnumNames<BackendKind> backends = {{"cpu", BackendKind::Cpu}, {"cuda", BackendKind::Cuda}};
  config.runtime.backend = reader.choice("backend", backends, std::optional(config.runtime.backend));
  const EnumNames<CommunicatorKind> communicators = {{"staged", CommunicatorKind::Staged},
                                                     {"nccl", CommunicatorKind::Nccl}};
  if (reader.has("communicator")) config.runtime.communicator = reader.choice("communicator", communicators, {});
  config.runtime.timeout = reader.duration("timeout", config.runtime.timeout);
  if (reader.has("link")) config.runtime.link = read_link(reader);
}

}  // namespace

Result<TrainConfig> read_train_config(const JsonDocument& document) {
  JsonReader reader(document);
  TrainConfig config;
  config.name = reader.text("name");
  config.workload = read_workload(reader);
  read_training(reader, config);
  read_runtime(reader, config);
  config.checkpoint = read_checkpoint_config(reader, config.workload.model);
  config.faults =
      read_faults(reader, std::max<std::int64_t>(1, config.workload.layout.world_size()), config.steps, config.seed);
  RETURN_IF_ERROR(reader.finish());
  return config;
}

DType compute_type(const Workload& workload) {
  switch (workload.bytes_per_element) {
    case 8:
      return DType::F64;
    case 4:
      return DType::F32;
    case 2:
      return DType::BF16;
  }
  ASSERT(false, "no type has {} bytes", workload.bytes_per_element);
}

}  // namespace moecast
