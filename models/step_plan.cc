#include "models/step_plan.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/overloaded.h"

namespace moecast {
namespace {

/// Keys that a query after a cache sees.
std::int64_t seen_tokens(const AttentionWork& work) {
  return std::min(work.window.value_or(work.cached + work.sequence), work.cached + work.sequence);
}

double causal_pairs(const AttentionWork& work) {  // (query, key) pairs: the lower triangle, or its band
  if (work.cached > 0) return static_cast<double>(work.batch * work.heads * work.sequence * seen_tokens(work));
  const auto length = static_cast<double>(work.sequence);
  const auto seen = static_cast<double>(std::min(work.window.value_or(work.sequence), work.sequence));
  return static_cast<double>(work.batch * work.heads) * seen * (length - (seen - 1) / 2) /
         static_cast<double>(work.context);
}

char letter(Phase phase) {
  switch (phase) {
    case Phase::Forward:
      return 'F';
    case Phase::Backward:
      return 'B';
    case Phase::WeightGradient:
      return 'W';
    case Phase::Update:
      return 'U';
    case Phase::Recompute:
      return 'R';
  }
  return '?';
}

}  // namespace

Flops flops(const Work& work) {
  return std::visit(
      Overloaded{
          [](const GemmWork& w) {
            return Flops(2.0 * static_cast<double>(w.m) * static_cast<double>(w.n) * static_cast<double>(w.k));
          },
          [](const GroupedGemmWork& w) {
            return Flops(2.0 * static_cast<double>(w.groups) * w.rows * static_cast<double>(w.n) *
                         static_cast<double>(w.k));
          },
          [](const AttentionWork& w) {
            // Two products forward; five backward, as the scores are computed again (Dao 2023, arXiv 2307.08691).
            const auto key = static_cast<double>(w.head_dim),
                       value = static_cast<double>(w.value_dim.value_or(w.head_dim));
            return Flops(2 * (w.backward ? 3 * key + 2 * value : key + value) * causal_pairs(w));
          },
          [](const MemoryWork&) { return Flops(0); },
      },
      work);
}

Bytes bytes(const Work& work, std::int64_t bytes_per_element) {
  return std::visit(
      Overloaded{
          [&](const GemmWork& w) { return Bytes((w.m * w.k + w.k * w.n + w.m * w.n) * bytes_per_element); },
          [&](const GroupedGemmWork& w) {
            const double each = w.rows * static_cast<double>(w.k + w.n) + static_cast<double>(w.k * w.n);
            return Bytes(std::llround(static_cast<double>(w.groups) * each) * bytes_per_element);
          },
          [&](const AttentionWork& w) {
            const std::int64_t tokens = w.batch * w.sequence;
            const std::int64_t value_dim = w.value_dim.value_or(w.head_dim);
            const std::int64_t query_and_out = tokens / w.context * w.heads * (w.head_dim + value_dim);
            const std::int64_t keys = w.cached > 0 ? w.batch * seen_tokens(w) : tokens;
            const std::int64_t key_value = keys * w.kv_heads * (w.head_dim + (w.values_in_keys ? 0 : value_dim));
            return Bytes((query_and_out + key_value) * (w.backward ? 2 : 1) * bytes_per_element);
          },
          [](const MemoryWork& w) { return w.bytes; },
      },
      work);
}

std::string Operator::name() const {
  std::string text;
  if (layer) text += fmt::format("L{}.", layer->value());
  if (part_of) text += fmt::format("{}.", to_text(*part_of));
  text += fmt::format("{}.{}", to_text(kind), letter(phase));
  const bool of_weights = phase == Phase::Update || kind == OpKind::WeightGather || kind == OpKind::GradientReduce;
  if (of_weights && communication) text += fmt::format(".{}", to_text(communication->group));
  if (second_routing) text += ".second";
  if (chunk_count > 1) text += fmt::format(".c{}", chunk);
  return text;
}

std::string_view to_text(OpKind kind) {
  switch (kind) {
    case OpKind::Embed:
      return "Embed";
    case OpKind::Attention:
      return "Attention";
    case OpKind::Mlp:
      return "Mlp";
    case OpKind::SharedExpert:
      return "SharedExpert";
    case OpKind::Gate:
      return "Gate";
    case OpKind::Encode:
      return "Encode";
    case OpKind::Counts:
      return "Counts";
    case OpKind::Dispatch:
      return "Dispatch";
    case OpKind::Expert:
      return "Expert";
    case OpKind::Combine:
      return "Combine";
    case OpKind::Decode:
      return "Decode";
    case OpKind::Head:
      return "Head";
    case OpKind::GradientReduce:
      return "GradientReduce";
    case OpKind::GradientNorm:
      return "GradientNorm";
    case OpKind::Optimizer:
      return "Optimizer";
    case OpKind::WeightGather:
      return "WeightGather";
    case OpKind::TensorGather:
      return "TensorGather";
    case OpKind::TensorReduce:
      return "TensorReduce";
    case OpKind::ContextGather:
      return "ContextGather";
    case OpKind::ContextReduce:
      return "ContextReduce";
    case OpKind::Send:
      return "Send";
    case OpKind::Receive:
      return "Receive";
    case OpKind::ExpertFetch:
      return "ExpertFetch";
  }
  return "?";
}

std::string_view to_text(Phase phase) {
  switch (phase) {
    case Phase::Forward:
      return "forward";
    case Phase::Backward:
      return "backward";
    case Phase::WeightGradient:
      return "weight_gradient";
    case Phase::Update:
      return "update";
    case Phase::Recompute:
      return "recompute";
  }
  return "?";
}

std::string_view to_text(Group group) {
  switch (group) {
    case Group::World:
      return "world";
    case Group::Tensor:
      return "tensor";
    case Group::Expert:
      return "expert";
    case Group::Data:
      return "data";
    case Group::ExpertData:
      return "expert_data";
    case Group::Pipeline:
      return "pipeline";
    case Group::Context:
      return "context";
  }
  return "?";
}

std::string_view to_text(Lane lane) {
  switch (lane) {
    case Lane::Compute:
      return "compute";
    case Lane::Comm:
      return "comm";
    case Lane::CopyOut:
      return "copy_out";
    case Lane::CopyIn:
      return "copy_in";
    case Lane::Storage:
      return "storage";
    case Lane::Tensor:
      return "tensor";
    case Lane::Send:
      return "send";
    case Lane::Receive:
      return "receive";
  }
  return "?";
}

std::string_view to_text(Collective collective) {
  switch (collective) {
    case Collective::AllToAll:
      return "all_to_all";
    case Collective::AllReduce:
      return "all_reduce";
    case Collective::ReduceScatter:
      return "reduce_scatter";
    case Collective::AllGather:
      return "all_gather";
    case Collective::Broadcast:
      return "broadcast";
    case Collective::PointToPoint:
      return "point_to_point";
  }
  return "?";
}

std::string_view to_text(MemoryKernel kernel) {
  switch (kernel) {
    case MemoryKernel::Norm:
      return "norm";
    case MemoryKernel::NormBackward:
      return "norm_backward";
    case MemoryKernel::Activation:
      return "activation";
    case MemoryKernel::ActivationBackward:
      return "activation_backward";
    case MemoryKernel::Bias:
      return "bias";
    case MemoryKernel::BiasGradient:
      return "bias_gradient";
    case MemoryKernel::Add:
      return "add";
    case MemoryKernel::Embedding:
      return "embedding";
    case MemoryKernel::EmbeddingBackward:
      return "embedding_backward";
    case MemoryKernel::CrossEntropy:
      return "cross_entropy";
    case MemoryKernel::Gate:
      return "gate";
    case MemoryKernel::GateBackward:
      return "gate_backward";
    case MemoryKernel::Permute:
      return "permute";
    case MemoryKernel::PermuteBackward:
      return "permute_backward";
    case MemoryKernel::Unpermute:
      return "unpermute";
    case MemoryKernel::UnpermuteBackward:
      return "unpermute_backward";
    case MemoryKernel::ScaleRows:
      return "scale_rows";
    case MemoryKernel::ScaleRowsBackward:
      return "scale_rows_backward";
    case MemoryKernel::AdamW:
      return "adamw";
    case MemoryKernel::SquaredNorm:
      return "squared_norm";
    case MemoryKernel::Copy:
      return "copy";
    case MemoryKernel::Cast:
      return "cast";
    case MemoryKernel::Fill:
      return "fill";
    case MemoryKernel::Rope:
      return "rope";
    case MemoryKernel::RopeBackward:
      return "rope_backward";
    case MemoryKernel::Sigmoid:
      return "sigmoid";
    case MemoryKernel::SigmoidBackward:
      return "sigmoid_backward";
  }
  return "?";
}

}  // namespace moecast
