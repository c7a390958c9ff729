#include "models/checkpoint/checkpoint_inventory.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "models/checkpoint/sharding.h"

namespace moecast {

namespace {

Error bad(std::string message) { return {ErrorKind::BadInput, "checkpoint", std::move(message)}; }

Status check_layout(const MoeModel& model, const ParallelLayout& layout) {
  RETURN_IF_ERROR(layout.check());
  if (layout.tensor != 1 || layout.pipeline != 1) {
    return bad(
        fmt::format("checkpoints divide data and expert parallel ranks; found tensor {}, pipeline {}, expected 1",
                    layout.tensor, layout.pipeline));
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::optional<MoeFfn>& moe = model.blocks[i].moe;
    if (!moe || moe->expert_count % layout.expert == 0) continue;
    return bad(fmt::format("block {} has {} experts, which {} expert ranks do not divide", i, moe->expert_count,
                           layout.expert));
  }
  return {};
}

/// "blocks.3.attention" of "blocks.3.attention.wo", "final_norm" of "final_norm.gain", embeddings whole.
std::string module_name(const std::string& parameter) {
  if (parameter.starts_with("embedding.")) return parameter;
  std::size_t end = parameter.find('.');
  if (parameter.starts_with("blocks.")) {
    end = parameter.find('.', parameter.find('.', end + 1) + 1);
  }
  return parameter.substr(0, end);
}

std::vector<CheckpointInventory::Module> modules_of(const std::vector<Parameter>& parameters) {
  std::vector<CheckpointInventory::Module> modules;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].expert) continue;
    std::string name = module_name(parameters[i].name);
    if (modules.empty() || modules.back().name != name) {
      modules.push_back({std::move(name), static_cast<std::int32_t>(i), 0, 0});
    }
    ++modules.back().parameter_count;
    modules.back().element_count += parameters[i].element_count();
  }
  return modules;
}

/// Elements of the even shares of these tensors, [parts].
std::vector<std::int64_t> shares(const std::vector<std::int64_t>& element_counts, std::int64_t parts) {
  std::vector<std::int64_t> sums(static_cast<std::size_t>(parts), 0);
  for (const std::int64_t count : element_counts) {
    for (std::int64_t position = 0; position < parts; ++position) {
      sums[static_cast<std::size_t>(position)] += even_share(count, parts, position).count();
    }
  }
  return sums;
}

}  // namespace

Result<CheckpointInventory> CheckpointInventory::make(const MoeModel& model, const ParallelLayout& layout,
                                                      const Precision& precision) {
  RETURN_IF_ERROR(check_layout(model, layout));
  CheckpointInventory made;
  made.parameters_ = moecast::parameters(model);
  made.experts_ = ExpertIndex(model);
  made.layout_ = layout;
  made.precision_ = precision;
  made.modules_ = modules_of(made.parameters_);
  made.expert_parameters_.resize(made.experts_.size());
  made.expert_of_.resize(made.parameters_.size());
  std::vector<std::int64_t> non_expert;
  for (std::size_t i = 0; i < made.parameters_.size(); ++i) {
    const Parameter& parameter = made.parameters_[i];
    if (!parameter.expert) {
      non_expert.push_back(parameter.element_count());
      continue;
    }
    const std::size_t expert = made.experts_.at(*made.experts_.ordinal(*parameter.layer), *parameter.expert);
    made.expert_of_[i] = expert;
    made.expert_parameters_[expert].push_back(static_cast<std::int32_t>(i));
  }
  made.non_expert_shares_ = shares(non_expert, layout.group_size(Group::Data));
  made.add_shapes();
  return made;
}

void CheckpointInventory::add_shapes() {
  std::vector<std::vector<std::int64_t>> seen;
  for (std::size_t m = 0; m < experts_.layer_count(); ++m) {
    std::vector<std::int64_t> counts;
    for (const std::int32_t p : expert_parameters_[experts_.begin(m)]) {
      counts.push_back(parameters_[static_cast<std::size_t>(p)].element_count());
    }
    const auto found = std::find(seen.begin(), seen.end(), counts);
    shapes_.push_back(static_cast<std::size_t>(found - seen.begin()));
    if (found != seen.end()) continue;
    expert_shares_.push_back(shares(counts, layout_.group_size(Group::ExpertData)));
    seen.push_back(std::move(counts));
  }
}

std::int64_t CheckpointInventory::expert_element_count(std::size_t expert) const {
  std::int64_t count = 0;
  for (const std::int32_t p : expert_parameters_[expert])
    count += parameters_[static_cast<std::size_t>(p)].element_count();
  return count;
}

std::int64_t CheckpointInventory::expert_owner(std::size_t expert) const {
  const ExpertIndex::Place place = experts_.place(expert);
  return place.expert.value() / (experts_.layers()[place.layer].expert_count / layout_.expert);
}

std::int64_t CheckpointInventory::bytes_per_element(Component component) const {
  switch (component) {
    case Component::Weight:
      return precision_.weight;
    case Component::Master:
      return precision_.master;
    case Component::FirstMoment:
      return precision_.first_moment;
    case Component::SecondMoment:
      return precision_.second_moment;
    case Component::Gradient:
      return precision_.gradient;
  }
  ASSERT(false, "no such component: {}", static_cast<int>(component));
}

bool CheckpointInventory::zero_sharded(Component component) const {
  switch (component) {
    case Component::Weight:
      return layout_.zero_stage >= 3;
    case Component::Gradient:
      return layout_.zero_stage >= 2;
    default:
      return layout_.zero_stage >= 1;
  }
}

std::int64_t CheckpointInventory::element_count() const {
  std::int64_t count = 0;
  for (const Parameter& parameter : parameters_) count += parameter.element_count();
  return count;
}

std::int64_t CheckpointInventory::expert_element_count() const {
  std::int64_t count = 0;
  for (std::size_t expert = 0; expert < experts_.size(); ++expert) count += expert_element_count(expert);
  return count;
}

Bytes CheckpointInventory::full_bytes() const {
  std::int64_t per_element = 0;
  for (const Component component : kSavedComponents) per_element += bytes_per_element(component);
  return Bytes(element_count() * per_element);
}

}  // namespace moecast
