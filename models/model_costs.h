#pragma once

#include <cstdint>

#include "base/units.h"
#include "models/moe_model.h"
#include "models/state_inventory.h"

namespace moecast {

/// Floating-point work of one token in sequences of `sequence` tokens (1 .. max_sequence): the forward pass of the step
/// plan with balanced routing and no padded slot, attention counted for what a token sees.
[[nodiscard]] Flops forward_flops_per_token(const MoeModel& model, std::int64_t sequence);
/// The same of forward and backward: three times the forward (PaLM, arXiv 2204.02311, appendix B; what the attention
/// kernel or recomputation does twice counts once).
[[nodiscard]] Flops training_flops_per_token(const MoeModel& model, std::int64_t sequence);

/// A checkpoint that holds the weights alone, or all that training goes on from: weights, masters and moments.
[[nodiscard]] Bytes weight_bytes(const MoeModel& model, const Precision& precision);
[[nodiscard]] Bytes state_bytes(const MoeModel& model, const Precision& precision);

/// Keys and values (latent attention: latent and rope key) that decoding keeps of a sequence of `tokens` tokens. A
/// block with a window keeps what the window holds.
[[nodiscard]] Bytes cache_bytes(const MoeModel& model, std::int64_t tokens, std::int64_t bytes_per_element);

}  // namespace moecast
