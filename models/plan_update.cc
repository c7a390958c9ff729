/// The end of a step, and what ZeRO (Rajbhandari et al. 2019, arXiv 1910.02054, section 5) divides over the replicas.
///
/// Stage 0: gradients are all-reduced when the last backward is done.
/// Stage 1: the gradients of a block are reduce-scattered as soon as the last micro-batch's backward has written them;
///          every rank updates its shard, then the weights are all-gathered.
/// Stage 2: the same in every micro-batch, as only shards of gradients are kept. The blocks take turns in two working
///          buffers: a backward that writes into one waits until it has been reduced.
/// Stage 3: as 2, and the weights of a block are all-gathered before its forward and before its backward, one block
///          ahead of the compute; nothing is gathered after the update.

#include <utility>

#include "models/plan_builder.h"

namespace moecast {
namespace {

constexpr std::int32_t kEmbedSlot = 2, kHeadSlot = 3;  // 0 and 1: blocks

std::int32_t slot_of(const StateBucket& bucket) {
  if (bucket.layer) return bucket.layer->value() % 2;
  return bucket.kind == OpKind::Embed ? kEmbedSlot : kHeadSlot;
}

std::optional<StateBucket> bucket_of(const Operator& op) {
  switch (op.kind) {
    case OpKind::Embed:
    case OpKind::Head:
      return StateBucket{op.kind, std::nullopt};
    case OpKind::Attention:
    case OpKind::Mlp:
    case OpKind::SharedExpert:
    case OpKind::Gate:
    case OpKind::Expert:
      return StateBucket{OpKind::Attention, op.layer};
    default:
      return std::nullopt;
  }
}

std::optional<OpKind> owner_of(const StateBucket& bucket) {
  return bucket.layer ? std::nullopt : std::optional(bucket.kind);
}

Group replicas(bool expert) { return expert ? Group::ExpertData : Group::Data; }

}  // namespace

void PlanBuilder::begin_pass() {
  gathers_.clear();
  open_.clear();
  for (const ChainItem& item : chain_->items) {
    if (item.kind == OpKind::Attention) open_[*item.layer] = 1;
  }
  for (const MoeSite& site : chain_->sites) ++open_[site.layer];  // its gate, which may come after its attention
}

/// Attention or gate of a block has written its gradients.
void PlanBuilder::close(LayerId layer) {
  if (--open_[layer] == 0 && !zero_bubble()) reduce({OpKind::Attention, layer});
}

/// Backward of a part is over: embeddings, final norm and output have their gradients. (A tied token embedding has two
/// parts of them where the pipeline has one stage.)
void PlanBuilder::close_ends() {
  const bool has_head = chain_->items.back().kind == OpKind::Head;
  const bool has_embedding = chain_->items.front().kind == OpKind::Embed;
  if (has_head) reduce({OpKind::Head, std::nullopt});
  const bool tied_copy = has_head && request_.model.tie_embeddings && request_.layout.pipeline > 1;
  if (has_embedding || tied_copy) reduce({OpKind::Embed, std::nullopt});
}

void PlanBuilder::reduce(const StateBucket& bucket) {
  const int zero = request_.layout.zero_stage;
  if (zero == 0 || (zero == 1 && !last_micro_batch())) return;
  Ids reduced;
  for (const bool expert : {false, true}) {
    const Bytes bytes = work_.bucket_gradient(bucket, expert);
    if (!work_.sharded(expert) || bytes.count() == 0) continue;
    reduced.push_back(communicate(OpKind::GradientReduce, Phase::Backward, bucket.layer,
                                  {Collective::ReduceScatter, replicas(expert), bytes}, {last_compute_},
                                  owner_of(bucket)));
  }
  if (zero >= 2) last_reduce_[slot_of(bucket)] = std::move(reduced);
}

/// What a compute operator waits for because ZeRO divides weights or gradients.
void PlanBuilder::add_weight_gathers(const Operator& op, Ids& dependencies) {
  const int zero = request_.layout.zero_stage;
  const std::optional<StateBucket> bucket = bucket_of(op);
  if (zero < 2 || !bucket || op.phase == Phase::Update) return;
  if (op.phase == Phase::Backward || op.phase == Phase::WeightGradient) {
    const Ids& reduced = last_reduce_[slot_of(*bucket)];
    dependencies.insert(dependencies.end(), reduced.begin(), reduced.end());
  }
  const bool head_again = !bucket->layer && op.phase != Phase::Forward;  // gathered in the forward just before, or not
  if (zero < 3 || op.phase == Phase::WeightGradient || head_again) return;
  const Phase phase = op.phase == Phase::Forward ? Phase::Forward : Phase::Backward;
  const Ids after = dependencies;
  const Ids own = gather_weights(bucket->kind, bucket->layer, phase, after);
  dependencies.insert(dependencies.end(), own.begin(), own.end());
  if (!bucket->layer) return;
  const LayerId next(bucket->layer->value() + (phase == Phase::Forward ? 1 : -1));
  if (open_.contains(next)) (void)gather_weights(OpKind::Attention, next, phase, after);
}

/// The collectives that bring a block's weights (or those of Embed or Head) together: once in a pass.
PlanBuilder::Ids PlanBuilder::gather_weights(OpKind kind, std::optional<LayerId> layer, Phase phase, Ids after) {
  const std::pair key(kind, layer ? layer->value() : -1);
  if (const auto found = gathers_.find(key); found != gathers_.end()) return found->second;
  Ids& gathered = gathers_[key];
  for (const bool expert : {false, true}) {
    Bytes bytes = work_.bucket_weight({kind, layer}, expert);
    if (kind == OpKind::Head && request_.model.tie_embeddings) {
      bytes += work_.bucket_weight({OpKind::Embed, std::nullopt}, expert);
    }
    if (!work_.sharded(expert) || bytes.count() == 0) continue;
    gathered.push_back(communicate(OpKind::WeightGather, phase, layer, {Collective::AllGather, replicas(expert), bytes},
                                   after, layer ? std::nullopt : std::optional(kind)));
  }
  return gathered;
}

/// Sums over replicas that are still to be made when every backward is done.
PlanBuilder::Ids PlanBuilder::reduce_gradients() {
  const ParallelLayout& layout = request_.layout;
  // The last compute operator of the backward: the lane's order puts every weight gradient before it.
  Ids ready = {last_compute_};
  const Ids done = ready;
  const auto all_reduce = [&](Group group, Bytes buffer) {
    if (layout.group_size(group) <= 1 || buffer.count() == 0) return;
    ready.push_back(
        communicate(OpKind::GradientReduce, Phase::Update, {}, {Collective::AllReduce, group, buffer}, done));
  };
  if (layout.zero_stage == 0) {
    all_reduce(Group::Data, work_.non_expert_gradient());
    all_reduce(Group::ExpertData, work_.expert_gradient());
  } else {
    for (const Operator& op : plan_.operators) {
      if (op.kind == OpKind::GradientReduce) ready.push_back(op.id);
    }
  }
  if (layout.sequence_parallel) all_reduce(Group::Tensor, work_.tensor_replicated_gradient());
  if (const Bytes tied = work_.tied_gradient(); tied.count() > 0) {
    // First and last stage add up their parts of the tied token embedding's gradient.
    const std::int64_t peer = stage_ == 0 ? layout.pipeline - 1 : 0;
    const Ids reduced = ready;
    ready.push_back(point_to_point(OpKind::Send, Phase::Update, {}, peer, tied, reduced));
    ready.push_back(point_to_point(OpKind::Receive, Phase::Update, {}, peer, tied, reduced));
  }
  return ready;
}

/// The squared norm over everything that other ranks have: first of the two parts, then of the stages together.
OpId PlanBuilder::reduce_norm(OpId norm) {
  const ParallelLayout& layout = request_.layout;
  const auto all_reduce = [&](Group group) {
    if (layout.group_size(group) <= 1) return;
    norm = communicate(OpKind::GradientNorm, Phase::Update, {}, {Collective::AllReduce, group, Bytes(8)}, {norm});
  };
  if (work_.sharded(false)) all_reduce(Group::Data);
  all_reduce(Group::Tensor);
  if (work_.expert_gradient().count() > 0) {
    if (work_.sharded(true)) all_reduce(Group::ExpertData);
    all_reduce(Group::Expert);
  }
  all_reduce(Group::Pipeline);
  return norm;
}

void PlanBuilder::update() {
  Operator op;
  op.kind = OpKind::GradientNorm;
  op.phase = Phase::Update;
  op.work = work_.gradient_norm();
  const OpId norm = reduce_norm(compute(op, reduce_gradients()));
  op.kind = OpKind::Optimizer;
  op.work = work_.optimizer();
  const OpId updated = compute(op, {norm});
  if (request_.layout.zero_stage == 0 || request_.layout.zero_stage == 3) return;
  for (const StateBucket& bucket : work_.buckets()) {
    for (const bool expert : {false, true}) {
      const Bytes bytes = work_.bucket_weight(bucket, expert);
      if (!work_.sharded(expert) || bytes.count() == 0) continue;
      communicate(OpKind::WeightGather, Phase::Update, bucket.layer, {Collective::AllGather, replicas(expert), bytes},
                  {updated}, owner_of(bucket));
    }
  }
}

}  // namespace moecast
