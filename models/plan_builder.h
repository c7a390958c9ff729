#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "models/forward_chain.h"
#include "models/operator_work.h"
#include "models/pipeline_order.h"
#include "models/step_plan.h"

namespace moecast {

struct Slots {
  std::int64_t forward = 1;
  std::int64_t backward = 1;
};

/// Appends the operators of one step of one pipeline stage. Methods that emit return the ids that later operators
/// depend on. The request has been checked; `chains` are the parts of this stage.
class PlanBuilder {
 public:
  PlanBuilder(const StepPlanRequest& request, const std::vector<ForwardChain>& chains, std::int64_t stage, Slots slots);

  [[nodiscard]] StepPlan build() &&;

 private:
  using Ids = std::vector<OpId>;
  /// A weight gradient that a zero-bubble schedule puts off.
  struct LateGradient {
    Operator op;
    OpId after;  // the backward operator that it belongs to
  };
  /// What a micro-batch leaves behind in one part between its passes.
  struct PassState {
    std::optional<OpId> forward_end;
    std::vector<LateGradient> late;
  };

  [[nodiscard]] const MoeFfn& moe(LayerId layer) const { return *request_.model.blocks[layer.index()].moe; }
  [[nodiscard]] bool shortcut() const { return request_.schedule.kind == ScheduleKind::Shortcut; }
  [[nodiscard]] bool zero_bubble() const { return request_.layout.pipeline_schedule == PipelineSchedule::ZeroBubble; }
  [[nodiscard]] bool last_micro_batch() const { return micro_batch_ + 1 == request_.batch.micro_batch_count; }
  /// Do backward operators that tensor parallelism divides leave their weights' gradients to an operator of their own?
  /// Then the collective that adds up the input's gradient travels beside it, as in Megatron-LM
  /// (tensor_parallel/layers.py); a zero-bubble schedule puts them off.
  [[nodiscard]] bool splits_weights() const { return request_.layout.tensor > 1 || zero_bubble(); }

  // Emitting (plan_builder.cc).
  OpId emit(Operator op, Ids dependencies);
  OpId compute(Operator op, Ids dependencies);
  OpId communicate(OpKind kind, Phase phase, std::optional<LayerId> layer, Communication communication,
                   Ids dependencies, std::optional<OpKind> part_of = std::nullopt);
  OpId point_to_point(OpKind kind, Phase phase, std::optional<LayerId> layer, std::int64_t peer, Bytes bytes,
                      Ids dependencies);
  void chain_operators();

  // Passes of a micro-batch through a part (plan_builder.cc).
  void run(const PipelinePass& pass);
  void late_weight_gradients();
  void forward();
  void run_items(std::size_t item, std::size_t end, Phase phase);
  void emit_forward(std::size_t item, Phase phase, Ids more = {});
  void backward();
  void recompute_unit(std::size_t last_item);
  void emit_backward(std::size_t item);
  void weight_gradient(Operator op, OpId after, Ids more = {});
  [[nodiscard]] std::vector<Work> item_work(const ChainItem& item, Phase phase) const;
  [[nodiscard]] const MoeSite* site_at_source(std::size_t item) const;

  // Tensor and context parallelism around one operator (plan_collectives.cc).
  [[nodiscard]] Ids collectives_before(OpKind kind, std::optional<LayerId> layer, Phase phase, Ids ready);
  [[nodiscard]] OpId collectives_after(OpKind kind, std::optional<LayerId> layer, Phase phase, OpId done);

  // Routed experts (plan_moe.cc).
  struct Routed {
    OpId gate;
    Ids dispatched;
    std::optional<OpId> fetched = std::nullopt;  // experts that lay on the host
  };
  [[nodiscard]] Routed dispatch_from(LayerId layer, Phase phase, Ids after);
  [[nodiscard]] OpId fetch_experts(LayerId layer, OpId gate);
  [[nodiscard]] Ids combine_from(LayerId layer, Phase phase, const Routed& routed);
  void route_back(LayerId layer, const Ids& combined, const std::function<void()>& meanwhile);
  void forward_moe(const MoeSite& site, Phase phase);
  void backward_moe(const MoeSite& site);
  [[nodiscard]] Ids exchange(OpKind kind, Phase phase, LayerId layer, const std::vector<Ids>& after);
  [[nodiscard]] Ids experts(Phase phase, LayerId layer, const Ids& after, std::optional<OpId> fetched = std::nullopt);

  // Optimizer, and what ZeRO divides (plan_update.cc).
  void begin_pass();
  void close(LayerId layer);
  void close_ends();
  void reduce(const StateBucket& bucket);
  void add_weight_gathers(const Operator& op, Ids& dependencies);
  [[nodiscard]] Ids gather_weights(OpKind kind, std::optional<LayerId> layer, Phase phase, Ids after);
  [[nodiscard]] Ids reduce_gradients();
  [[nodiscard]] OpId reduce_norm(OpId norm);
  void update();

  const StepPlanRequest& request_;
  const std::vector<ForwardChain>& chains_;
  std::int64_t stage_;
  OperatorWork work_;
  Slots slots_;
  StepPlan plan_;
  std::vector<std::vector<PassState>> states_;  // [part][micro-batch]

  // Of the pass at hand.
  const ForwardChain* chain_ = nullptr;
  PassState* state_ = nullptr;
  std::int32_t micro_batch_ = 0;
  bool second_routing_ = false;  // what is emitted belongs to a double gate's second routing
  std::vector<OpId> made_;       // by chain item: its forward operator
  std::optional<OpId> stream_;   // the last operator that wrote the residual stream or, backward, its gradient
  std::map<LayerId, int> open_;  // backward operators that still write this block's gradients
  std::map<std::pair<OpKind, std::int32_t>, Ids> gathers_;  // ZeRO 3: kind and layer (or -1) -> weights gathered

  OpId last_compute_;
  std::map<std::int32_t, Ids> last_reduce_;  // ZeRO 2: by slot of working gradients
};

}  // namespace moecast
