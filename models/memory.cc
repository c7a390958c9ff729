#include "models/memory.h"

#include <algorithm>

#include "base/assert.h"
#include "models/forward_chain.h"
#include "models/operator_work.h"
#include "models/pipeline_order.h"
#include "models/stage_parts.h"
#include "models/state_inventory.h"

namespace moecast {
namespace {

/// Sizes of one rank's micro-batch.
struct Sizes {
  explicit Sizes(const StepPlanRequest& request)
      : model(request.model),
        layout(request.layout),
        batch(request.batch),
        tensor(layout.tensor),
        tokens(batch.tokens() / layout.context),
        local(layout.sequence_parallel ? tokens / tensor : tokens),
        element(request.bytes_per_element),
        state(std::max<std::int64_t>(4, element)) {}

  const MoeModel& model;
  const ParallelLayout& layout;
  const Batch& batch;
  std::int64_t tensor;
  std::int64_t tokens;   // of the tensor-parallel products
  std::int64_t local;    // between them
  std::int64_t element;  // bytes
  std::int64_t state;    // bytes

  [[nodiscard]] std::int64_t stream() const { return local * model.d_model * element; }
};

/// Input, its norm, queries, keys and values, the heads' output, and what comes before the next norm; latents and their
/// norms, which tensor ranks have in common.
std::int64_t attention_bytes(const Sizes& sizes, ActivationRule rule) {
  const Attention& attention = sizes.model.attention;
  std::int64_t products = (attention.core_width() + attention.output_width()) / sizes.tensor;
  if (attention.latent) {
    products +=
        2 * attention.latent->query_rank.value_or(0) + 2 * attention.latent->kv_rank + attention.latent->rope_dim;
  }
  const std::int64_t heads = attention.heads / sizes.tensor;
  std::int64_t bytes = 3 * sizes.stream() + sizes.tokens * products * sizes.element;
  if (rule.dropout) bytes += sizes.local * sizes.model.d_model;
  if (sizes.layout.recomputation == Recomputation::Selective) return bytes;
  if (!rule.attention_scores) return bytes + sizes.tokens * heads * sizes.state;  // log-sum-exp
  const std::int64_t pairs = sizes.tokens * heads * sizes.batch.sequence;
  return bytes + pairs * (sizes.element + (rule.dropout ? sizes.element + 1 : 0));
}

/// Norm, pre-activation and activation of a dense FFN or a shared expert.
std::int64_t ffn_bytes(const Sizes& sizes, std::int64_t width, ActivationRule rule) {
  const std::int64_t inside = (sizes.model.ffn_input_columns(width) + width) / sizes.tensor;
  const std::int64_t mask = rule.dropout ? sizes.local * sizes.model.d_model : 0;
  return sizes.stream() + sizes.tokens * inside * sizes.element + mask;
}

/// Norm, scores and choices; of the experts the rows that came, pre-activation and activation; the rows that came back.
std::int64_t routed_bytes(const Sizes& sizes, const MoeFfn& moe, const OperatorWork& work) {
  const ExpertShare share = work.share(moe, 0, 1);
  const auto received = static_cast<std::int64_t>(share.rows * static_cast<double>(share.groups));
  const std::int64_t inside = sizes.model.ffn_input_columns(moe.expert_width) + moe.expert_width;
  const std::int64_t gate = sizes.local * (moe.choice_count() + 3 * moe.choices()) * sizes.state;
  return sizes.stream() + gate +
         (received * (sizes.model.d_model + inside) + share.send_rows * sizes.model.d_model) * sizes.element;
}

std::int64_t block_bytes(const Sizes& sizes, const Block& block, ActivationRule rule, const OperatorWork& work) {
  std::int64_t bytes = attention_bytes(sizes, rule);
  if (!block.moe) return bytes + ffn_bytes(sizes, block.dense_width, rule);
  if (block.moe->shared_expert_width > 0) {
    bytes += ffn_bytes(sizes, block.moe->shared_expert_width, rule);
    bytes += coefficient_count(block.moe->coefficient_gate) * sizes.stream();  // what its gradient needs
  }
  return bytes + block.moe->routing_count() * routed_bytes(sizes, *block.moe, work);
}

/// Input and norm of the head, and the logits, which become their gradient.
std::int64_t head_bytes(const Sizes& sizes) {
  const std::int64_t words = (sizes.model.vocabulary + sizes.tensor - 1) / sizes.tensor;
  return 2 * sizes.stream() + sizes.tokens * words * sizes.element;
}

struct PartActivations {
  std::int64_t kept = 0;     // from the forward of a micro-batch to its backward
  std::int64_t working = 0;  // once, while a unit is computed again
};

PartActivations part_activations(const Sizes& sizes, const ModelPart& part, ActivationRule rule,
                                 const OperatorWork& work) {
  PartActivations bytes;
  if (part.has_head) bytes.kept += head_bytes(sizes);
  const auto of_block = [&](LayerId layer) {
    return block_bytes(sizes, sizes.model.blocks[layer.index()], rule, work);
  };
  const Result<ForwardChain> chain = forward_chain(sizes.model, part);
  ASSERT(chain.ok(), "{}", chain.error().text());
  for (const ChainUnit& unit : chain_units(*chain)) {
    std::int64_t whole = 0;
    for (std::size_t item = unit.begin; item < unit.end; ++item) {
      if (chain->items[item].kind == OpKind::Attention) whole += of_block(*chain->items[item].layer);
    }
    const bool again = sizes.layout.recomputation == Recomputation::Full;
    bytes.kept += again ? sizes.stream() : whole;
    if (again) bytes.working = std::max(bytes.working, whole);
  }
  return bytes;
}

/// Largest sum of what micro-batches keep at any moment of the order.
std::int64_t peak_kept(const std::vector<PipelinePass>& order, const std::vector<PartActivations>& parts,
                       bool late_weights) {
  const auto releases = late_weights ? PipelinePass::Kind::WeightGradient : PipelinePass::Kind::Backward;
  std::int64_t held = 0, peak = 0;
  for (const PipelinePass& pass : order) {
    const std::int64_t bytes = parts[static_cast<std::size_t>(pass.part)].kept;
    if (pass.kind == PipelinePass::Kind::Forward) peak = std::max(peak, held += bytes);
    if (pass.kind == releases) held -= bytes;
  }
  return peak;
}

/// Largest gradient of a tensor inside an operator, beside that of the residual stream; gathered tokens; rows on their
/// way to and from experts; messages of the pipeline.
std::int64_t activation_buffers(const Sizes& sizes, const std::vector<ModelPart>& parts, const OperatorWork& work) {
  std::int64_t widest = sizes.model.attention.core_width() / sizes.tensor * sizes.tokens;
  std::int64_t rows = 0;
  for (const ModelPart& part : parts) {
    for (auto i = static_cast<std::size_t>(part.first_block); i < static_cast<std::size_t>(part.end_block); ++i) {
      const Block& block = sizes.model.blocks[i];
      const std::int64_t width = block.moe ? block.moe->shared_expert_width : block.dense_width;
      widest = std::max(widest, sizes.model.ffn_input_columns(width) / sizes.tensor * sizes.tokens);
      if (!block.moe) continue;
      const ExpertShare share = work.share(*block.moe, 0, 1);
      const auto received = static_cast<std::int64_t>(share.rows * static_cast<double>(share.groups));
      rows = std::max(rows, block.moe->routing_count() * (share.send_rows + received) * sizes.model.d_model);
      widest = std::max(widest, received * sizes.model.ffn_input_columns(block.moe->expert_width));
    }
  }
  std::int64_t bytes = 2 * sizes.stream() + (widest + rows) * sizes.element;
  if (sizes.layout.sequence_parallel) bytes += 2 * work.stream_bytes().count();
  if (sizes.layout.pipeline > 1) bytes += 2 * sizes.stream();
  return bytes;
}

/// What ZeRO needs beside the shards: packed shares of the largest bucket; working gradients (stage 2 on); gathered
/// weights (stage 3): those of two blocks each, and of embeddings and head.
std::int64_t zero_buffers(const ParallelLayout& layout, const OperatorWork& work) {
  std::int64_t staging = 0, ends = 0, ends_weight = 0;
  std::vector<std::int64_t> blocks{0, 0}, block_weights{0, 0};
  for (const StateBucket& bucket : work.buckets()) {
    std::int64_t gradient = 0, weight = 0;
    for (const bool expert : {false, true}) {
      if (!work.sharded(expert)) continue;
      staging = std::max(staging, work.bucket_gradient(bucket, expert).count());
      gradient += work.bucket_gradient(bucket, expert).count();
      weight += work.bucket_weight(bucket, expert).count();
    }
    if (bucket.layer) {
      blocks.push_back(gradient);
      block_weights.push_back(weight);
    } else {
      ends += gradient;
      ends_weight += weight;
    }
  }
  const auto two_largest = [](std::vector<std::int64_t> sizes) {
    std::partial_sort(sizes.begin(), sizes.begin() + 2, sizes.end(), std::greater<>());
    return sizes[0] + sizes[1];
  };
  std::int64_t bytes = staging;
  if (layout.zero_stage >= 2) bytes += two_largest(blocks) + ends;
  if (layout.zero_stage >= 3) bytes += two_largest(block_weights) + ends_weight;
  return bytes;
}

/// Keys and values of every sequence in the blocks of a stage; tensor ranks have a part of the heads, and all of a
/// latent.
std::int64_t cached_bytes(const StepPlanRequest& request, const std::vector<ModelPart>& parts) {
  const Attention& attention = request.model.attention;
  const std::int64_t width = attention.cache_width() / (attention.latent ? 1 : request.layout.tensor);
  const std::int64_t length = request.batch.sequence + (request.task == StepTask::Decode ? 1 : 0);
  std::int64_t tokens = 0;
  for (const ModelPart& part : parts) {
    for (std::int64_t block = part.first_block; block < part.end_block; ++block) {
      tokens += std::min(attention.window_of(block).value_or(length), length);
    }
  }
  return tokens * request.batch.micro_batch * request.batch.micro_batch_count * width * request.bytes_per_element /
         request.layout.context;
}

StageMemory inference_memory(const StepPlanRequest& asked, std::int64_t stage) {
  const std::vector<ModelPart> parts = parts_of_stage(asked.model, asked.layout, stage);
  StepPlanRequest request = asked;
  if (request.task == StepTask::Decode) request.batch.sequence = 1;
  const OperatorWork work(asked, stage);
  const Rank first = asked.layout.first_rank(stage);
  StageMemory memory;
  memory.weights = rank_memory(asked.model, asked.layout, first, precision_of(asked.bytes_per_element)).weight;
  if (asked.experts_on_host) {
    Bytes largest{0};
    for (const Block& block : asked.model.blocks) {
      if (block.moe) largest = std::max(largest, work.chosen_expert_weights(*block.moe));
    }
    memory.weights = memory.weights - work.expert_weights() + largest * 2;  // one layer computes, the next one comes
  }
  memory.buffers = Bytes(activation_buffers(Sizes(request), parts, work));
  memory.cache = Bytes(cached_bytes(asked, parts));
  return memory;
}

StageMemory memory_of(const StepPlanRequest& request, std::int64_t stage, ActivationRule rule) {
  if (request.task != StepTask::Training) return inference_memory(request, stage);
  const Sizes sizes(request);
  const OperatorWork work(request, stage);
  const std::vector<ModelPart> own = parts_of_stage(request.model, request.layout, stage);
  std::vector<PartActivations> parts;
  std::int64_t working = 0;
  for (const ModelPart& part : own) {
    parts.push_back(part_activations(sizes, part, rule, work));
    working = std::max(working, parts.back().working);
  }
  const Rank first = request.layout.first_rank(stage);
  const RankMemory state = rank_memory(request.model, request.layout, first, precision_of(request.bytes_per_element));
  const bool late = request.layout.pipeline_schedule == PipelineSchedule::ZeroBubble;
  const auto order = pipeline_order(request.layout, stage, request.batch.micro_batch_count);
  StageMemory memory{state.weight, state.gradient, state.master, state.moments};
  memory.activations = Bytes(peak_kept(order, parts, late) + working);
  memory.buffers = Bytes(activation_buffers(sizes, own, work) + zero_buffers(request.layout, work));
  return memory;
}

}  // namespace

Bytes block_activations(const StepPlanRequest& request, std::int64_t block, ActivationRule rule) {
  const OperatorWork work(request, 0);
  return Bytes(block_bytes(Sizes(request), request.model.blocks.at(static_cast<std::size_t>(block)), rule, work));
}

std::vector<StageMemory> stage_memory(const StepPlanRequest& request, ActivationRule rule) {
  std::vector<StageMemory> stages;
  for (std::int64_t stage = 0; stage < request.layout.pipeline; ++stage) {
    stages.push_back(memory_of(request, stage, rule));
  }
  return stages;
}

StageMemory largest_memory(const StepPlanRequest& request) {
  const std::vector<StageMemory> stages = stage_memory(request);
  return *std::max_element(stages.begin(), stages.end(), [](const StageMemory& a, const StageMemory& b) {
    return a.total().count() < b.total().count();
  });
}

}  // namespace moecast
