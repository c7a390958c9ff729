#include "runtime/trainer/parameter_store.h"

#include <algorithm>

namespace moecast {
namespace {

ParameterClass class_of(const Parameter& parameter) {
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

}  // namespace

Result<ParameterStore> ParameterStore::make(std::vector<Parameter> parameters, DType compute, Backend& backend) {
  ParameterStore store;
  store.compute_ = compute;
  store.state_ = compute == DType::F64 ? DType::F64 : DType::F32;
  store.place(std::move(parameters));
  for (const Component component :
       {Component::Weight, Component::Master, Component::FirstMoment, Component::SecondMoment, Component::Gradient}) {
    if (component == Component::Weight && store.compute_ == store.state_) continue;
    const Bytes size(store.element_count() * bytes_per_element(store.dtype(component)));
    Result<std::unique_ptr<DeviceMemory>> memory = backend.allocate(size);
    if (!memory.ok()) return memory.error();
    store.memory_[static_cast<std::size_t>(component)] = std::move(memory).value();
    if (component != Component::Weight && component != Component::Master) {
      backend.fill(Lane::Compute, store.range(component, 0, store.element_count()), 0);
    }
  }
  return store;
}

void ParameterStore::place(std::vector<Parameter> parameters) {
  std::stable_sort(parameters.begin(), parameters.end(),
                   [](const Parameter& a, const Parameter& b) { return class_of(a) < class_of(b); });
  std::array<std::int64_t, kParameterClassCount> size{};
  std::int64_t offset = 0;
  for (Parameter& parameter : parameters) {
    const std::int64_t count = parameter.element_count();
    size[static_cast<std::size_t>(class_of(parameter))] += count;
    by_name_.emplace(parameter.name, entries_.size());
    entries_.push_back({std::move(parameter), offset});
    offset += count;
  }
  for (std::size_t i = 0; i < size.size(); ++i) class_begin_[i + 1] = class_begin_[i] + size[i];
}

const ParameterStore::Entry& ParameterStore::entry(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  ASSERT(found != by_name_.end(), "no parameter {}", name);
  return entries_[found->second];
}

Tensor ParameterStore::tensor(Component component, std::string_view name) const {
  return tensor(component, entry(name));
}

Tensor ParameterStore::tensor(Component component, const Entry& entry) const {
  const std::int64_t end = entry.offset + entry.parameter.element_count();
  return with_shape(range(component, entry.offset, end), entry.parameter.shape);
}

Tensor ParameterStore::stacked(Component component, std::string_view first, std::int64_t count) const {
  const Entry& begin = entry(first);
  const auto index = static_cast<std::size_t>(&begin - entries_.data());
  const std::int64_t elements = begin.parameter.element_count();
  std::vector<std::int64_t> shape = begin.parameter.shape;
  for (std::int64_t i = 0; i < count; ++i) {
    const Entry& next = entries_[index + static_cast<std::size_t>(i)];
    ASSERT(next.parameter.shape == shape && next.offset == begin.offset + i * elements, "{} does not follow {}",
           next.parameter.name, first);
  }
  shape.insert(shape.begin(), count);
  return with_shape(range(component, begin.offset, begin.offset + count * elements), shape);
}

Tensor ParameterStore::flat(Component component, ParameterClass of) const {
  const auto index = static_cast<std::size_t>(of);
  return range(component, class_begin_[index], class_begin_[index + 1]);
}

Tensor ParameterStore::flat_dense(Component component) const { return range(component, 0, class_begin_[2]); }
Tensor ParameterStore::flat_expert(Component component) const {
  return range(component, class_begin_[2], class_begin_[4]);
}

Tensor ParameterStore::range(Component component, std::int64_t begin, std::int64_t end) const {
  const bool is_master = component == Component::Weight && compute_ == state_;
  const auto index = static_cast<std::size_t>(is_master ? Component::Master : component);
  const DType type = dtype(component);
  return Tensor(static_cast<char*>(memory_[index]->data()) + begin * bytes_per_element(type), type, {end - begin});
}

DType ParameterStore::dtype(Component component) const { return component == Component::Weight ? compute_ : state_; }

}  // namespace moecast
