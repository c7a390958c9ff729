#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "models/moe_model.h"
#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "runtime/backend.h"
#include "runtime/comm/groups.h"
#include "runtime/trainer/activations.h"
#include "runtime/trainer/exchange_plan.h"
#include "runtime/trainer/parameter_store.h"
#include "runtime/trainer/parameter_views.h"

namespace moecast {

/// One routing of one block's MoE; the second is a double gate's by the block's own tensor.
struct Routing {
  std::size_t block = 0;
  bool second = false;
  [[nodiscard]] std::size_t index() const { return second ? 1 : 0; }
};

/// What the operators of one rank work on. Two lanes use it at once; the plan's dependencies keep them apart.
struct StepContext {
  const MoeModel& model;
  ParallelLayout layout;
  Rank rank;
  Batch batch;
  DType compute = DType::F32;
  Backend& backend;
  const Groups& groups;
  ParameterStore& store;
  ParameterViews parameters;
  Activations states;
  std::vector<std::array<ExchangePlan, 2>> exchanges;  // by block and routing; written once with a capacity, by Counts
                                                       // without
  std::uint64_t seed = 1;                              // of the run: hash tables and draws of routers

  // Of the current step.
  std::int64_t step = 0;
  bool validates = false;              // routers do not explore
  AdamWStep optimizer = {};            // gradient_scale is set by the optimizer operator
  double gradient_clip = 0;            // largest global norm of the gradient; 0: no clipping
  bool split_expert_backward = false;  // the plan has operators for the experts' weight gradients
  std::int64_t chunk_count = 1;
  double gradient_norm = 0;  // out: global norm before clipping

  /// Tokens of one micro-batch, ranks that share a step's tokens.
  [[nodiscard]] std::int64_t tokens() const { return batch.tokens(); }
  /// The loss is the mean over all tokens of a step: what one token's loss is multiplied by.
  [[nodiscard]] double loss_scale() const {
    return 1.0 / static_cast<double>(tokens() * batch.micro_batch_count * layout.data);
  }
  /// A gate's losses in a step are means over ranks, micro-batches and a layer's routings.
  [[nodiscard]] double gate_loss_share(const MoeFfn& moe) const {
    return 1.0 / static_cast<double>(batch.micro_batch_count * layout.data * moe.routing_count());
  }
  /// Tokens of a step that would choose each of a layer's experts if they were balanced.
  [[nodiscard]] double mean_load(const MoeFfn& moe) const {
    const std::int64_t routed = tokens() * batch.micro_batch_count * layout.data * moe.routing_count();
    return static_cast<double>(routed * moe.gate.top_k) / static_cast<double>(moe.choice_count());
  }
  [[nodiscard]] const MoeFfn& moe(std::size_t block) const { return *model.blocks[block].moe; }
  [[nodiscard]] AttentionShape attention_shape() const {
    const Attention& a = model.attention;
    return {batch.micro_batch, batch.sequence, a.heads, a.kv_heads, a.head_dim};
  }
};

/// What gate leaves for one micro-batch.
[[nodiscard]] GateTensors gate_tensors(const RoutedState& state, std::int64_t micro_batch);

[[nodiscard]] const RoutedState& routed_state(const StepContext& context, Routing routing);
[[nodiscard]] const ExchangePlan& exchange_of(const StepContext& context, Routing routing);
[[nodiscard]] RoutedTemporaries& routed_temporaries(StepContext& context, Routing routing);
/// Where a gate and its experts read their input (ScMoE, arXiv 2404.05019, section 3.1): the shortcut tensor, or the
/// block's own for the second routing of a double gate (appendix A.2).
[[nodiscard]] const Tensor& routed_tensor(const StepContext& context, Routing routing);
/// Where a block writes its output: the next block's input.
[[nodiscard]] const Tensor& block_output(const StepContext& context, std::size_t block);

/// Exchanges of a layer with a capacity: the same for every step.
void plan_fixed_exchange(StepContext& context, std::size_t block);

// Operators, one file for each family. Each calls the kernels that OperatorWork lists, in that order.
void embed_forward(StepContext& context, std::int64_t micro_batch);
void embed_backward(StepContext& context, std::int64_t micro_batch);
void attention_forward(StepContext& context, std::size_t block);
void attention_backward(StepContext& context, std::size_t block);
void mlp_forward(StepContext& context, std::size_t block);
void mlp_backward(StepContext& context, std::size_t block);
void shared_expert_forward(StepContext& context, std::size_t block);
void shared_expert_backward(StepContext& context, std::size_t block);
void gate_forward(StepContext& context, Routing routing, std::int64_t micro_batch);
void gate_backward(StepContext& context, Routing routing, std::int64_t micro_batch);
void encode_forward(StepContext& context, Routing routing);
void encode_backward(StepContext& context, Routing routing);
void decode_forward(StepContext& context, std::size_t block);
void decode_backward(StepContext& context, std::size_t block);
void expert_forward(StepContext& context, Routing routing, std::size_t chunk);
void expert_backward(StepContext& context, Routing routing, std::size_t chunk);
void expert_weight_gradient(StepContext& context, Routing routing, std::size_t chunk);
void head_forward(StepContext& context, std::int64_t micro_batch);
void head_backward(StepContext& context);
[[nodiscard]] Status exchange_counts(StepContext& context, Routing routing, std::int64_t micro_batch);
[[nodiscard]] Status dispatch_forward(StepContext& context, Routing routing, std::size_t chunk);
[[nodiscard]] Status combine_forward(StepContext& context, Routing routing, std::size_t chunk);
[[nodiscard]] Status combine_backward(StepContext& context, Routing routing, std::size_t chunk);
[[nodiscard]] Status dispatch_backward(StepContext& context, Routing routing, std::size_t chunk);
[[nodiscard]] Status reduce_gradients(StepContext& context, const Operator& op);
[[nodiscard]] Status gather_weights(StepContext& context, const Operator& op);
void local_gradient_norm(StepContext& context);
[[nodiscard]] Status reduce_gradient_norm(StepContext& context, Group group);
/// RunFailed, with step and operator, and nothing changed, if the gradient is not finite.
[[nodiscard]] Status update_parameters(StepContext& context);

}  // namespace moecast
