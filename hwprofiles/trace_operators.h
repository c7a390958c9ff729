#pragma once

#include <optional>
#include <string>

#include "hwprofiles/trace_events.h"
#include "models/step_plan.h"

namespace moecast {

/// An operator of PyTorch as work that a profile has costs for; or why it is none.
struct TracedWork {
  std::optional<Work> work;
  std::string reason;        // without work: "no shapes in the trace", "not causal"
  std::string element_type;  // of its operands: "c10::BFloat16"
};

/// Does a profile know operators of this name at all?
[[nodiscard]] bool is_known_operator(const std::string& name);

/// Matrix products (aten::mm, addmm, bmm, _grouped_mm ...), attention (scaled_dot_product and flash_attn, forward and
/// backward), and memory-bound kernels (norms, activations, add, copy, embedding, fill, sigmoid), from the shapes of
/// their inputs: a trace has them if it was made with record_shapes=True. Bytes are counted as in models/operator_work.
[[nodiscard]] TracedWork work_of(const TraceEvent& op);

/// A kernel of NCCL as a collective with its size; or why it is none. `group_size` above one.
struct TracedCollective {
  std::optional<Communication> communication;
  std::string reason;
};
[[nodiscard]] TracedCollective collective_of(const TraceEvent& kernel);

}  // namespace moecast
