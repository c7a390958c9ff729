#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/units.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"
#include "models/schedule.h"

namespace moecast {

/// What an operator does. Forward meaning; the backward of each exists too.
enum class OpKind {
  Embed,           // token + position embedding -> x_0
  Attention,       // h = x + Proj(Attn(QKV(norm(x))))
  Mlp,             // y = h + FFN(norm(h))
  SharedExpert,    // se = FFN(norm(h)), and the coefficient gate c
  Gate,            // routed input S: n = norm(S), logits, selection, rows, weights
  Encode,          // permute n into the send buffer [experts, slots, d]
  Counts,          // dropless only: all-to-all of the token counts, so that every rank knows what Dispatch brings
  Dispatch,        // all-to-all to the expert owners (chunked)
  Expert,          // grouped FFN over the local experts (chunked)
  Combine,         // all-to-all back (chunked)
  Decode,          // y = h + c * se + sum_j weight_j * row_j
  Head,            // final norm, logits, cross-entropy
  GradientReduce,  // sum of gradients over replicas
  GradientNorm,    // squared norm of the gradients and its sum over ranks
  Optimizer,       // AdamW
  WeightGather,    // all-gather of weights that ZeRO divides
  TensorGather,    // tensor parallel: all-gather of sequence shards, or all-reduce where a gradient is a partial sum
  TensorReduce,    // tensor parallel: reduce-scatter (sequence parallel) or all-reduce of partial sums
  ContextGather,   // context parallel: all-gather of keys and values
  ContextReduce,   // context parallel: reduce-scatter of their gradients
  Send,            // pipeline: activations to the next stage, gradients to the one before
  Receive,
  ExpertFetch,  // inference with experts on the host: the weights of those that were chosen, to the device
};

enum class Phase {
  Forward,
  Backward,        // gradients of inputs; and of weights, unless the plan has a WeightGradient for the operator
  WeightGradient,  // gradients of weights alone: off the critical path
  Update,          // GradientReduce, GradientNorm, Optimizer, WeightGather
  Recompute,       // the forward once more, inside the backward
};

/// Queues of one rank. Operators of one lane run one at a time in plan order; lanes run beside each other.
enum class Lane {
  Compute,
  Comm,  // collectives over Expert, Data, ExpertData, World
  CopyOut,
  CopyIn,
  Storage,
  Tensor,   // collectives over Tensor and Context: they do not queue behind a dispatch
  Send,     // pipeline, PointToPoint
  Receive,  // pipeline, PointToPoint
};
inline constexpr int kLaneCount = 8;

/// Arithmetic and memory traffic of one operator, in terms that a device's cost tables know.
struct GemmWork {  // [m,k] x [k,n]
  std::int64_t m = 0, n = 0, k = 0;

  friend bool operator==(const GemmWork&, const GemmWork&) = default;
};
struct GroupedGemmWork {  // `groups` products [rows,k] x [k,n]; rows is the mean over groups
  std::int64_t groups = 0;
  double rows = 0;
  std::int64_t n = 0, k = 0;

  friend bool operator==(const GroupedGemmWork&, const GroupedGemmWork&) = default;
};
struct AttentionWork {  // causal attention core (scores, softmax, weighted sum)
  std::int64_t batch = 0, sequence = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool backward = false;
  std::optional<std::int64_t> window = std::nullopt;     // a token sees the last so many; no value: all
  std::optional<std::int64_t> value_dim = std::nullopt;  // of a value, where it is not head_dim (latent attention)
  std::int64_t context = 1;  // ranks that divide the (query, key) pairs evenly; each sees all keys and values
  /// Decoding: tokens before these `sequence`, whose keys and values are read from the cache, and bytes of an element
  /// there.
  std::int64_t cached = 0;
  std::int64_t cache_element = 2;
  bool values_in_keys = false;  // decoding with latent attention: a value is a part of the key that is read anyway

  friend bool operator==(const AttentionWork&, const AttentionWork&) = default;
};
enum class MemoryKernel {  // memory-bound kernels; the cost table has one curve for each
  Norm,
  NormBackward,
  Activation,
  ActivationBackward,
  Bias,
  BiasGradient,
  Add,
  Embedding,
  EmbeddingBackward,
  CrossEntropy,
  Gate,
  GateBackward,
  Permute,
  PermuteBackward,
  Unpermute,
  UnpermuteBackward,
  ScaleRows,
  ScaleRowsBackward,
  AdamW,
  SquaredNorm,
  Copy,
  Cast,
  Fill,
  Rope,
  RopeBackward,
  Sigmoid,
  SigmoidBackward,
};
struct MemoryWork {
  MemoryKernel kernel = MemoryKernel::Copy;
  std::int64_t rows = 0, columns = 0;  // the kernel's main operand; a flat buffer of n elements is one row of n
  Bytes bytes{0};                      // read + written, each operand once

  friend bool operator==(const MemoryWork&, const MemoryWork&) = default;
};
using Work = std::variant<GemmWork, GroupedGemmWork, AttentionWork, MemoryWork>;

[[nodiscard]] Flops flops(const Work& work);  // 2mnk; causal attention counts the lower triangle only
[[nodiscard]] Bytes bytes(const Work& work, std::int64_t bytes_per_element);

enum class Collective { AllToAll, AllReduce, ReduceScatter, AllGather, Broadcast, PointToPoint };

struct Communication {
  Collective collective = Collective::AllToAll;
  Group group = Group::Expert;
  /// Of one rank, its own share included: all-to-all send buffer, all-reduce buffer, what a reduce-scatter takes and an
  /// all-gather makes, the message of a PointToPoint.
  Bytes buffer{0};
  /// PointToPoint only: the pipeline stage at the other end. The n-th Send of stage s to stage t is what the n-th
  /// Receive on t from s waits for. Sends are buffered: they begin when their lane is free and their dependencies are
  /// done, and do not wait for the receiver. A Receive ends when the bytes have arrived.
  std::optional<std::int32_t> peer_stage = std::nullopt;
};

struct Operator {
  OpId id;
  OpKind kind = OpKind::Embed;
  Phase phase = Phase::Forward;
  Lane lane = Lane::Compute;
  std::optional<LayerId> layer = std::nullopt;  // block; none for Embed, Head and whole-model operators
  std::int32_t micro_batch = 0;
  std::int32_t chunk = 0, chunk_count = 1;
  bool second_routing = false;  // of a double gate: by the block's own tensor, after that by the shortcut's
  std::vector<Work> work = {};  // compute lane: kernels in the order in which they run
  std::optional<Communication> communication = std::nullopt;  // comm lane
  std::vector<OpId> dependencies = {};                        // smaller ids only
  std::optional<OpKind> part_of = std::nullopt;               // TensorGather ...: the operator that it serves
  Bytes host_bytes{0};                                        // ExpertFetch: what crosses the link to the host

  /// "L3.Dispatch.F", "L3.Expert.B.c1", "L3.Gate.F.second", "L3.Attention.TensorGather.F",
  /// "GradientReduce.U.expert_data": unique inside a plan up to the micro-batch.
  [[nodiscard]] std::string name() const;
};

/// What a step is for.
enum class StepTask {
  Training,
  Prefill,  // forward alone, of whole prompts; logits of the last token
  Decode,   // forward of one token more of every sequence, whose other tokens' keys and values are in the cache
};

/// Tokens of one step.
struct Batch {
  std::int64_t micro_batch = 1;        // sequences per rank and micro-batch
  std::int64_t micro_batch_count = 1;  // gradient accumulation; inference: batches that follow one another
  std::int64_t sequence = 0;           // tokens of a sequence; decoding: those in the cache
  [[nodiscard]] std::int64_t tokens() const { return micro_batch * sequence; }  // per rank and micro-batch

  friend bool operator==(const Batch&, const Batch&) = default;
};

/// One training step of one rank (all ranks of a pipeline stage run the same plan): operators in issue order, each lane
/// first in, first out. The runtime executes it, the simulator times it; neither adds or drops an operator.
struct StepPlan {
  std::vector<Operator> operators;
  Schedule schedule;  // slots resolved
  std::int64_t bytes_per_element = 4;
};

/// Expected duration of an operator, for choosing slots; need not be exact.
using OperatorTime = std::function<Duration(const Operator&)>;

struct StepPlanRequest {
  const MoeModel& model;
  const ParallelLayout& layout;
  Batch batch;
  Schedule schedule;
  std::int64_t bytes_per_element = 4;  // of activations and of what travels
  OperatorTime operator_time = {};     // needed when a slot is auto
  StepTask task = StepTask::Training;
  /// Inference: routed experts lie in the host's memory. Those that a micro-batch chooses are copied as soon as its
  /// Gate has chosen them, beside whatever the schedule lets run (ScMoE appendix A.3, "early migration"); in a
  /// sequential schedule everything waits for them.
  bool experts_on_host = false;
};

/// Builds the plan. BadInput when layout and model do not fit (experts % EP, a shortcut without a preceding block, a
/// slot outside the window, chunks on a sequential schedule ...).
///
/// Compute order of a MoE block: Gate and Encode follow at once on the operator that makes the shortcut tensor S (ScMoE
/// section 3.2). The window is the compute between S and Decode; with a shortcut schedule the experts stand in its slot
/// K and Dispatch and Combine travel beside it, in every other schedule the window comes before Gate. The backward
/// mirrors it: Decode, the window reversed with the experts in slot K_b, then Encode and Gate, whose gradient joins the
/// residual stream's where S branched off.
///
/// A double gate (ScMoE appendix A.2) routes once more from the window's last operator, the block's own attention, as
/// soon as that is through: its dispatch travels beside the first routing's experts if these come after the window, its
/// experts beside the first combine. Its Gate waits for the first, whose experts it avoids. Backward, its gradient is
/// complete before the window begins.
[[nodiscard]] Result<StepPlan> build_step_plan(const StepPlanRequest& request);

/// All that build_stage_plans demands of a request: BadInput with what would fit.
[[nodiscard]] Status check_plan(const StepPlanRequest& request);

/// One plan for each pipeline stage (index = stage; ranks of one stage run the same plan): one element, equal to
/// build_step_plan's, when the layout's pipeline degree is 1. BadInput as there, and when the blocks do not divide over
/// the stages: the message says what would fit.
[[nodiscard]] Result<std::vector<StepPlan>> build_stage_plans(const StepPlanRequest& request);

[[nodiscard]] std::string_view to_text(OpKind kind);
[[nodiscard]] std::string_view to_text(Phase phase);  // "forward"; names of operators use the first letter
[[nodiscard]] std::string_view to_text(Group group);
[[nodiscard]] std::string_view to_text(Lane lane);
[[nodiscard]] std::string_view to_text(Collective collective);
[[nodiscard]] std::string_view to_text(MemoryKernel kernel);

}  // namespace moecast
