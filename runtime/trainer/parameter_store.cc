#include "runtime/trainer/parameter_store.h"

#include <algorithm>

namespace moecast {
namespace {

ParameterClass class_of(const Parameter& parameter) {
  if (!parameter.trained) return ParameterClass::DenseUntrained;
  if (parameter.expert) return parameter.decay ? ParameterClass::ExpertDecay : ParameterClass::ExpertNoDecay;
  return parameter.decay ? ParameterClass::DenseDecay : ParameterClass::DenseNoDecay;
}

Tensor with_shape(const Tensor& flat, const std::vector<std::int64_t>& shape) {
  switch (shape.size()) {
    case 1:
      return flat.reshaped({shape[0]});
    case 2:
      return flat.reshaped({shape[0], shape[1]});
    case 3:
      return flat.reshaped({shape[0], shape[1], shape[2]});
  }
  ASSERT(false, "a parameter of {} dimensions", shape.size());
}

bool is_expert(const ParameterStore::Entry& entry) { return entry.parameter.expert.has_value(); }

std::size_t class_index(const ParameterStore::Entry& entry) {
  return static_cast<std::size_t>(class_of(entry.parameter));
}

}  // namespace

StateDivision state_division(const ParallelLayout& layout, Rank rank) {
  const auto replicas = [&](Group group) {
    return StateDivision::Replicas{layout.group_size(group), layout.position(group, rank)};
  };
  return {layout.zero_stage, replicas(Group::Data), replicas(Group::ExpertData)};
}

Result<ParameterStore> ParameterStore::make(std::vector<Parameter> parameters, DType compute, Backend& backend,
                                            const StateDivision& division) {
  ParameterStore store;
  store.compute_ = compute;
  store.state_ = compute == DType::F64 ? DType::F64 : DType::F32;
  store.division_ = division;
  store.place(std::move(parameters));
  store.place_state();
  store.place_gradients();
  store.list_buckets();
  RETURN_IF_ERROR(store.allocate(backend));
  if (division.sharded(false)) RETURN_IF_ERROR(store.allocate_shards(backend));
  return store;
}

void ParameterStore::place(std::vector<Parameter> parameters) {
  std::stable_sort(parameters.begin(), parameters.end(),
                   [](const Parameter& a, const Parameter& b) { return class_of(a) < class_of(b); });
  std::int64_t offset = 0;
  for (Parameter& parameter : parameters) {
    const std::int64_t count = parameter.element_count();
    by_name_.emplace(parameter.name, entries_.size());
    entries_.push_back({std::move(parameter), offset});
    offset += count;
    class_begin_[class_index(entries_.back()) + 1] = offset;
  }
  for (std::size_t i = 0; i < kParameterClassCount; ++i) {
    class_begin_[i + 1] = std::max(class_begin_[i + 1], class_begin_[i]);
  }
}

void ParameterStore::place_state() {
  std::int64_t offset = 0;
  for (Entry& entry : entries_) {
    const StateDivision::Replicas& replicas = division_.replicas(is_expert(entry));
    const std::int64_t count = entry.parameter.element_count();
    entry.share = division_.sharded(is_expert(entry)) ? even_share(count, replicas.count, replicas.position)
                                                      : ElementRange{0, count};
    entry.state_offset = offset;
    offset += entry.share.count();
    state_begin_[class_index(entry) + 1] = offset;
  }
  for (std::size_t i = 0; i < kParameterClassCount; ++i) {
    state_begin_[i + 1] = std::max(state_begin_[i + 1], state_begin_[i]);
  }
}

/// From ZeRO 2 on, after what is whole: embeddings, final norm and output; then two working buffers for the blocks.
void ParameterStore::place_gradients() {
  const auto works = [&](const Entry& entry) {
    return division_.zero_stage >= 2 && division_.sharded(is_expert(entry));
  };
  std::int64_t persistent = 0;
  for (const bool in_turn : {false, true}) {
    for (Entry& entry : entries_) {
      if (works(entry) != in_turn || (in_turn && entry.parameter.layer)) continue;
      entry.gradient_offset = persistent;
      persistent += entry.parameter.element_count();
    }
  }
  std::array<std::int64_t, 2> largest{};
  std::unordered_map<std::int32_t, std::int64_t> used;  // by block
  for (const bool assign : {false, true}) {
    used.clear();
    for (Entry& entry : entries_) {
      if (!works(entry) || !entry.parameter.layer) continue;
      const std::int32_t block = entry.parameter.layer->value();
      const auto slot = static_cast<std::size_t>(block % 2);
      std::int64_t& inside = used[block];
      if (assign) entry.gradient_offset = persistent + (slot == 0 ? 0 : largest[0]) + inside;
      inside += entry.parameter.element_count();
      if (!assign) largest[slot] = std::max(largest[slot], inside);
    }
  }
  gradient_count_ = persistent + largest[0] + largest[1];
}

void ParameterStore::list_buckets() {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const bool expert = is_expert(entries_[i]);
    if (!division_.sharded(expert)) continue;
    const StateBucket what = bucket_of(entries_[i].parameter);
    auto place = std::find_if(buckets_.begin(), buckets_.end(),
                              [&](const Bucket& each) { return each.what == what && each.expert == expert; });
    if (place == buckets_.end()) place = buckets_.insert(place, Bucket{what, expert, {}, 0});
    place->entries.push_back(i);
    place->shard_count +=
        even_share(entries_[i].parameter.element_count(), division_.replicas(expert).count, 0).count();
  }
}

Status ParameterStore::allocate(Backend& backend) {
  const std::int64_t state = state_begin_.back();
  // Weights that are not the masters: all of a narrower type, else those of the divided parts, which come first.
  const std::int64_t weights = compute_ != state_         ? element_count()
                               : division_.sharded(true)  ? element_count()
                               : division_.sharded(false) ? class_begin_[kFirstExpertClass]
                                                          : 0;
  for (const auto& [component, count] : {std::pair(Component::Weight, weights),
                                         {Component::Master, state},
                                         {Component::FirstMoment, state},
                                         {Component::SecondMoment, state},
                                         {Component::Gradient, gradient_count_}}) {
    if (count == 0 && component == Component::Weight) continue;
    Result<std::unique_ptr<DeviceMemory>> memory = backend.allocate(Bytes(count * bytes_per_element(dtype(component))));
    if (!memory.ok()) return memory.error();
    std::unique_ptr<DeviceMemory>& place = memory_[static_cast<std::size_t>(component)];
    place = std::move(memory).value();
    if (component != Component::Weight && component != Component::Master) {
      backend.fill(Lane::Compute, view(place, state_, 0, count), 0);
    }
  }
  return {};
}

Status ParameterStore::allocate_shards(Backend& backend) {
  const std::int64_t shard = division_.sharded(true) ? state_begin_.back() : state_begin_[kFirstExpertClass];
  std::int64_t most = 0, most_shard = 0;
  for (const Bucket& bucket : buckets_) {
    most = std::max(most, bucket.shard_count * division_.replicas(bucket.expert).count);
    most_shard = std::max(most_shard, bucket.shard_count);
  }
  const std::int64_t wide = bytes_per_element(state_);
  for (const auto& [place, size] : {std::pair(&reduced_, shard * wide),
                                    {&weight_shard_, compute_ == state_ ? 0 : shard * bytes_per_element(compute_)},
                                    {&staging_, most * wide},
                                    {&staging_shard_, most_shard * wide}}) {
    if (size == 0) continue;
    Result<std::unique_ptr<DeviceMemory>> memory = backend.allocate(Bytes(size));
    if (!memory.ok()) return memory.error();
    *place = std::move(memory).value();
  }
  // Shares are not all of one size: what stands behind a shorter one is sent, and must be a number.
  backend.fill(Lane::Compute, view(reduced_, state_, 0, shard), 0);
  backend.fill(Lane::Compute, view(staging_, state_, 0, most), 0);
  backend.fill(Lane::Compute, view(staging_shard_, state_, 0, most_shard), 0);
  return {};
}

const ParameterStore::Entry& ParameterStore::entry(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  ASSERT(found != by_name_.end(), "no parameter {}", name);
  return entries_[found->second];
}

Tensor ParameterStore::view(const std::unique_ptr<DeviceMemory>& memory, DType type, std::int64_t begin,
                            std::int64_t end) const {
  return Tensor(static_cast<char*>(memory->data()) + begin * bytes_per_element(type), type, {end - begin});
}

/// `count` elements from the entry's first on, all of them whole.
Tensor ParameterStore::whole(Component component, const Entry& entry, std::int64_t count) const {
  const bool expert = is_expert(entry);
  if (component == Component::Weight && !aliased(expert)) {
    return view(memory(component), compute_, entry.offset, entry.offset + count);
  }
  if (component == Component::Gradient) {
    return view(memory(component), state_, entry.gradient_offset, entry.gradient_offset + count);
  }
  ASSERT(!division_.sharded(expert), "{} is divided over ranks", entry.parameter.name);
  const Component stored = component == Component::Weight ? Component::Master : component;
  return view(memory(stored), state_, entry.state_offset, entry.state_offset + count);
}

Tensor ParameterStore::tensor(Component component, std::string_view name) const {
  return tensor(component, entry(name));
}

Tensor ParameterStore::tensor(Component component, const Entry& entry) const {
  return with_shape(whole(component, entry, entry.parameter.element_count()), entry.parameter.shape);
}

Tensor ParameterStore::share(Component component, const Entry& entry) const {
  ASSERT(component != Component::Weight && component != Component::Gradient, "weights and gradients are whole");
  return view(memory(component), state_, entry.state_offset, entry.state_offset + entry.share.count());
}

Tensor ParameterStore::stacked(Component component, std::string_view first, std::int64_t count) const {
  const Entry& begin = entry(first);
  const auto index = static_cast<std::size_t>(&begin - entries_.data());
  const std::int64_t elements = begin.parameter.element_count();
  std::vector<std::int64_t> shape = begin.parameter.shape;
  for (std::int64_t i = 0; i < count; ++i) {
    const Entry& next = entries_[index + static_cast<std::size_t>(i)];
    ASSERT(next.parameter.shape == shape && next.offset == begin.offset + i * elements &&
               next.gradient_offset == begin.gradient_offset + i * elements,
           "{} does not follow {}", next.parameter.name, first);
  }
  shape.insert(shape.begin(), count);
  return with_shape(whole(component, begin, count * elements), shape);
}

Tensor ParameterStore::flat(Component component, ParameterClass of) const {
  return flat_range(component, static_cast<std::size_t>(of), static_cast<std::size_t>(of) + 1);
}
Tensor ParameterStore::flat_dense(Component component) const { return flat_range(component, 0, kFirstExpertClass); }
Tensor ParameterStore::flat_trained_dense(Component component) const {
  return flat_range(component, 0, static_cast<std::size_t>(ParameterClass::DenseUntrained));
}
Tensor ParameterStore::flat_expert(Component component) const {
  return flat_range(component, kFirstExpertClass, kParameterClassCount);
}

Tensor ParameterStore::flat_range(Component component, std::size_t first_class, std::size_t last_class) const {
  const bool expert = first_class >= kFirstExpertClass;
  const std::int64_t begin = state_begin_[first_class], end = state_begin_[last_class];
  if (division_.sharded(expert)) {
    if (component == Component::Gradient) return view(reduced_, state_, begin, end);
    if (component == Component::Weight && compute_ != state_) return view(weight_shard_, compute_, begin, end);
  } else if (component == Component::Gradient) {
    // Whole parts come first in the gradients, in the order of the classes: of ZeRO 2, that is the experts alone.
    const bool dense_is_elsewhere = division_.zero_stage >= 2 && division_.sharded(false);
    const std::int64_t skipped = dense_is_elsewhere ? class_begin_[kFirstExpertClass] : 0;
    return view(memory(component), state_, class_begin_[first_class] - skipped, class_begin_[last_class] - skipped);
  } else if (component == Component::Weight && !aliased(expert)) {
    return view(memory(component), compute_, class_begin_[first_class], class_begin_[last_class]);
  }
  const Component stored = component == Component::Weight ? Component::Master : component;
  return view(memory(stored), state_, begin, end);
}

const ParameterStore::Bucket& ParameterStore::bucket(const StateBucket& what, bool expert) const {
  const auto found = std::find_if(buckets_.begin(), buckets_.end(),
                                  [&](const Bucket& each) { return each.what == what && each.expert == expert; });
  ASSERT(found != buckets_.end(), "nothing to reduce for {}", to_text(what.kind));
  return *found;
}

Tensor ParameterStore::weight_share(const Entry& entry) const {
  const bool is_master = compute_ == state_;
  return view(is_master ? memory(Component::Master) : weight_shard_, compute_, entry.state_offset,
              entry.state_offset + entry.share.count());
}

Tensor ParameterStore::gradient_share(const Entry& entry) const {
  return view(reduced_, state_, entry.state_offset, entry.state_offset + entry.share.count());
}

Tensor ParameterStore::whole_gradients(bool expert) const {
  ASSERT(division_.zero_stage < 2, "gradients of ZeRO {} are not whole", division_.zero_stage);
  const std::int64_t experts = class_begin_[kFirstExpertClass];
  return view(memory(Component::Gradient), state_, expert ? experts : 0, expert ? class_begin_.back() : experts);
}

Tensor ParameterStore::staging(Component component, const Bucket& bucket) const {
  const std::int64_t ranks = division_.replicas(bucket.expert).count;
  return view(staging_, dtype(component), 0, ranks * bucket.shard_count).reshaped({ranks, bucket.shard_count});
}

Tensor ParameterStore::staging_shard(Component component, const Bucket& bucket) const {
  return view(staging_shard_, dtype(component), 0, bucket.shard_count);
}

}  // namespace moecast
