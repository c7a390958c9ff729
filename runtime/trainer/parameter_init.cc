#include <cmath>

#include "base/random.h"
#include "runtime/trainer/parameter_store.h"

namespace moecast {
namespace {

constexpr double kDeviation = 0.02;

/// What a parameter starts as: `constant`, plus a normal draw with this deviation.
struct Start {
  double constant = 0;
  double deviation = 0;
};

Start start_of(const Parameter& parameter, std::int64_t layer_count) {
  const std::string leaf = parameter.name.substr(parameter.name.rfind('.') + 1);
  if (leaf == "gain") return {1, 0};
  if (parameter.shape.size() == 1) return {0, 0};  // every other vector is a bias
  const bool onto_residual = leaf == "wo" || leaf == "w2";
  return {0, onto_residual ? kDeviation / std::sqrt(2.0 * static_cast<double>(layer_count)) : kDeviation};
}

template <typename T>
void draw(const Parameter& parameter, const Start& start, std::uint64_t seed, std::vector<T>& values) {
  values.assign(static_cast<std::size_t>(parameter.element_count()), static_cast<T>(start.constant));
  if (start.deviation == 0) return;
  const CounterRandom random(seed, stream_of(parameter.name));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(start.deviation * random.normal(0, i));
}

/// The whole weight, and the master or this rank's share of it.
template <typename T>
void initialise_tensor(ParameterStore& store, const ParameterStore::Entry& entry, const std::vector<T>& values,
                       Backend& backend) {
  constexpr Lane kLane = Lane::Compute;
  const Tensor master = store.share(Component::Master, entry);
  if (master.element_count() > 0) backend.upload(kLane, master, values.data() + entry.share.begin);
  const Tensor weight = store.tensor(Component::Weight, entry);
  if (weight.data != master.data) {
    const Tensor gradient = store.tensor(Component::Gradient, entry);  // all of it, in the masters' type
    backend.upload(kLane, gradient, values.data());
    gradient.dtype == weight.dtype ? backend.copy(kLane, weight, gradient) : backend.cast(kLane, weight, gradient);
    backend.fill(kLane, gradient, 0);
  }
  backend.synchronize(kLane);  // `values` is used again
}

template <typename T>
void initialise_as(ParameterStore& store, std::int64_t layer_count, std::uint64_t seed, Backend& backend) {
  std::vector<T> values;
  for (const ParameterStore::Entry& entry : store.entries()) {
    draw(entry.parameter, start_of(entry.parameter, layer_count), seed, values);
    initialise_tensor(store, entry, values, backend);
  }
}

}  // namespace

void initialise(ParameterStore& store, std::int64_t layer_count, std::uint64_t seed, Backend& backend) {
  if (store.flat_dense(Component::Master).dtype == DType::F64) {
    initialise_as<double>(store, layer_count, seed, backend);
  } else {
    initialise_as<float>(store, layer_count, seed, backend);
  }
}

}  // namespace moecast
