#pragma once

#include <string>
#include <vector>

#include "models/moe_model.h"

namespace moecast {

/// What a model has and the trainer cannot run, in the words of a model file ("attention.latent"); empty if it can
/// train the model. Such models are described, planned and simulated all the same.
[[nodiscard]] std::vector<std::string> untrainable_parts(const MoeModel& model);

}  // namespace moecast
