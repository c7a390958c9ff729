#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

/// Columns of the pre-activation for each of the activation: a gate stands before what it multiplies.
std::int64_t input_factor(Activation kind) { return is_gated(kind) ? 2 : 1; }

}  // namespace

void CpuBackend::bias_add(Lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) {
  with_scalar(x.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const Groups groups = checked_groups(offsets, x.rows(), b.rows());
    kernels.bias_add(groups, elements<T>(x, x.element_count()), elements<T>(b, groups.weights * x.columns()),
                     x.columns());
  });
}

void CpuBackend::bias_gradient(Lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) {
  with_scalar(dx.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const Groups groups = checked_groups(offsets, dx.rows(), db.rows());
    kernels.bias_gradient(groups, elements<T>(dx, dx.element_count()), elements<T>(db, groups.weights * dx.columns()),
                          dx.columns());
  });
}

void CpuBackend::activation(Lane, Activation kind, Tensor pre, Tensor out) {
  with_scalar(pre.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t factor = input_factor(kind);
    kernels.activation(kind, elements<T>(pre, factor * out.element_count()), elements<T>(out, out.element_count()),
                       out.rows(), out.columns());
  });
}

void CpuBackend::activation_backward(Lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) {
  with_scalar(pre.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = input_factor(kind) * dout.element_count();
    kernels.activation_backward(kind, elements<T>(pre, count), elements<T>(dout, dout.element_count()),
                                elements<T>(dpre, count), dout.rows(), dout.columns());
  });
}

}  // namespace moecast::cpu
