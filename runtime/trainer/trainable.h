#pragma once

#include <string>
#include <vector>

#include "models/moe_model.h"
#include "runtime/trainer/train_config.h"

namespace moecast {

/// What a model has and the trainer cannot run on a backend, in the words of a model file ("attention.latent"); empty
/// if it can train the model. Such models are described, planned and simulated all the same.
[[nodiscard]] std::vector<std::string> untrainable_parts(const MoeModel& model, BackendKind backend);

}  // namespace moecast
