#include <cmath>

#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {

void CpuBackend::adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
                       Tensor second_moment, Tensor weight) {
  ASSERT(step.step >= 1, "step {}", step.step);
  with_scalar(master.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const double t = static_cast<double>(step.step);
    AdamW<T> constants;
    constants.rate = static_cast<T>(step.learning_rate);
    constants.beta1 = static_cast<T>(step.beta1);
    constants.beta2 = static_cast<T>(step.beta2);
    constants.rest1 = static_cast<T>(1.0 - step.beta1);
    constants.rest2 = static_cast<T>(1.0 - step.beta2);
    constants.epsilon = static_cast<T>(step.epsilon);
    constants.decay = static_cast<T>(step.weight_decay);
    constants.scale = static_cast<T>(step.gradient_scale);
    constants.correction1 = static_cast<T>(1.0 / (1.0 - std::pow(step.beta1, t)));
    constants.correction2 = static_cast<T>(1.0 / (1.0 - std::pow(step.beta2, t)));
    const std::int64_t count = master.element_count();
    kernels.adamw(constants, elements<T>(master, count), elements<T>(gradient, count), elements<T>(first_moment, count),
                  elements<T>(second_moment, count), count);
  });
  if (weight.data == master.data) return;
  weight.dtype == master.dtype ? copy(lane, weight, master) : cast(lane, weight, master);
}

void CpuBackend::follow_load(Lane lane, double rate, double mean, Tensor load, Tensor bias, Tensor weight) {
  with_scalar(bias.dtype, [&]<typename T>(const Kernels<T>&) {
    const std::int64_t count = bias.element_count();
    const T* tokens = elements<T>(load, count);
    T* value = elements<T>(bias, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const double behind = mean - static_cast<double>(tokens[i]);
      value[i] += static_cast<T>(behind > 0 ? rate : behind < 0 ? -rate : 0);
    }
  });
  if (weight.data != bias.data) weight.dtype == bias.dtype ? copy(lane, weight, bias) : cast(lane, weight, bias);
}

void CpuBackend::squared_norm(Lane, Tensor x, Tensor out, bool accumulate) {
  with_scalar(x.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    double* sum = elements<double>(out, 1);
    const double value = kernels.squared_norm(elements<T>(x, x.element_count()), x.element_count());
    *sum = accumulate ? *sum + value : value;
  });
}

}  // namespace moecast::cpu
