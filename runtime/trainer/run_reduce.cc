#include "runtime/trainer/step_context.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Comm;

StateBucket bucket_of(const Operator& op) {
  return op.layer ? StateBucket{OpKind::Attention, op.layer} : StateBucket{op.part_of.value(), std::nullopt};
}

/// Calls `use(whole, in_staging)` for every rank's share of every tensor of the bucket: `whole(entry)` is all of it,
/// and rank r's shares stand one after another in row r of the staging memory.
template <typename Whole, typename Use>
void for_each_share(const ParameterStore& store, const ParameterStore::Bucket& bucket, const Tensor& staging,
                    const Whole& whole, const Use& use) {
  const std::int64_t ranks = store.division().replicas(bucket.expert).count;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const Tensor row = staging.slice(rank, rank + 1).reshaped({bucket.shard_count});
    std::int64_t at = 0;
    for (const std::size_t index : bucket.entries) {
      const Tensor tensor = whole(store.entries()[index]);
      const Tensor flat = tensor.reshaped({tensor.element_count()});
      const ElementRange share = even_share(flat.element_count(), ranks, rank);
      if (share.count() > 0) use(flat.slice(share.begin, share.end), row.slice(at, at + share.count()));
      at += share.count();
    }
  }
}

/// The same for this rank's shares and its own memory of them.
template <typename Own, typename Use>
void for_own_shares(const ParameterStore& store, const ParameterStore::Bucket& bucket, const Tensor& shard,
                    const Own& own, const Use& use) {
  std::int64_t at = 0;
  for (const std::size_t index : bucket.entries) {
    const Tensor share = own(store.entries()[index]);
    if (share.element_count() > 0) use(share, shard.slice(at, at + share.element_count()));
    at += share.element_count();
  }
}

/// ZeRO: a communicator reduces and gathers equal consecutive parts, and a gradient is written as a whole tensor: so
/// shares are packed by rank before and unpacked after, as part of the collective (as in PyTorch's FSDP2).
Status reduce_scatter_gradients(StepContext& context, const Operator& op) {
  const ParameterStore& store = context.store;
  const ParameterStore::Bucket& bucket = store.bucket(bucket_of(op), op.communication->group == Group::ExpertData);
  const Tensor staging = store.staging(Component::Gradient, bucket);
  const Tensor shard = store.staging_shard(Component::Gradient, bucket);
  const auto gradient = [&](const ParameterStore::Entry& entry) { return store.tensor(Component::Gradient, entry); };
  for_each_share(store, bucket, staging, gradient,
                 [&](const Tensor& whole, const Tensor& packed) { context.backend.copy(kLane, packed, whole); });
  RETURN_IF_ERROR(
      context.groups.at(op.communication->group).reduce_scatter(staging.reshaped({staging.element_count()}), shard));
  const bool in_every_micro_batch = store.division().zero_stage >= 2;
  const auto keep = [&](const Tensor& share, const Tensor& reduced) {
    in_every_micro_batch ? context.backend.add(kLane, share, reduced) : context.backend.copy(kLane, share, reduced);
  };
  for_own_shares(
      store, bucket, shard, [&](const ParameterStore::Entry& entry) { return store.gradient_share(entry); }, keep);
  if (!in_every_micro_batch) return {};
  for (const std::size_t index : bucket.entries) {  // the next block, or micro-batch, begins at zero
    context.backend.fill(kLane, gradient(store.entries()[index]), 0);
  }
  return {};
}

}  // namespace

/// The loss is scaled by one over all tokens of the step, so the sum over ranks is the gradient of the mean.
Status reduce_gradients(StepContext& context, const Operator& op) {
  if (op.communication->collective == Collective::ReduceScatter) return reduce_scatter_gradients(context, op);
  const Group group = op.communication->group;
  const Tensor buffer = group == Group::Data ? context.store.flat_dense(Component::Gradient)
                                             : context.store.flat_expert(Component::Gradient);
  return context.groups.at(group).all_reduce(buffer);
}

Status gather_weights(StepContext& context, const Operator& op) {
  const ParameterStore& store = context.store;
  const ParameterStore::Bucket& bucket = store.bucket(bucket_of(op), op.communication->group == Group::ExpertData);
  const Tensor staging = store.staging(Component::Weight, bucket);
  const Tensor shard = store.staging_shard(Component::Weight, bucket);
  for_own_shares(
      store, bucket, shard, [&](const ParameterStore::Entry& entry) { return store.weight_share(entry); },
      [&](const Tensor& share, const Tensor& packed) { context.backend.copy(kLane, packed, share); });
  RETURN_IF_ERROR(
      context.groups.at(op.communication->group).all_gather(shard, staging.reshaped({staging.element_count()})));
  for_each_share(
      store, bucket, staging,
      [&](const ParameterStore::Entry& entry) { return store.tensor(Component::Weight, entry); },
      [&](const Tensor& whole, const Tensor& packed) { context.backend.copy(kLane, whole, packed); });
  return {};
}

}  // namespace moecast
