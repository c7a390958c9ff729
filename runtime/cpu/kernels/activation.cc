#include "runtime/cpu/kernels/blocks.h"

#include <unsupported/Eigen/SpecialFunctions>

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

template <typename T>
void bias_add(const Groups& groups, T* x, const T* b, Index columns) {
  for (Index g = 0; g < groups.group_count; ++g) {
    const T* bias = b + (g % groups.weights) * columns;
    for (Index r = groups.offsets[g]; r < groups.offsets[g + 1]; ++r) add_row(x + r * columns, T(1), bias, columns);
  }
}

template <typename T>
void bias_gradient(const Groups& groups, const T* dx, T* db, Index columns) {
  for (Index g = 0; g < groups.group_count; ++g) {
    T* dbias = db + (g % groups.weights) * columns;
    for (Index r = groups.offsets[g]; r < groups.offsets[g + 1]; ++r) add_row(dbias, T(1), dx + r * columns, columns);
  }
}

/// Phi(x) = (1 + erf(x / sqrt 2)) / 2, the normal distribution function.
template <typename T>
Lanes<T> normal_cdf(const Lanes<T>& x) {
  const Lanes<T> scaled = x * T(0.70710678118654752440);
  return T(0.5) + T(0.5) * Eigen::erf(scaled);
}

template <typename T>
Lanes<T> normal_density(const Lanes<T>& x) {
  constexpr T kDensity = T(0.39894228040143267794);  // 1 / sqrt(2 pi)
  return kDensity * (x.square() * T(-0.5)).exp();
}

/// GELU(x) = x Phi(x) (Hendrycks & Gimpel, arXiv 1606.08415, section 2).
template <typename T>
void gelu(const T* pre, T* out, Index count) {
  for_blocks<T>(count, [&](auto block) {
    const Lanes<T> x = block.load(pre);
    block.store(out, x * normal_cdf<T>(x));
  });
}

/// d GELU / dx = Phi(x) + x phi(x), phi the normal density.
template <typename T>
void gelu_backward(const T* pre, const T* dout, T* dpre, Index count) {
  for_blocks<T>(count, [&](auto block) {
    const Lanes<T> x = block.load(pre);
    const Lanes<T> density = normal_density<T>(x);
    block.store(dpre, block.load(dout) * (normal_cdf<T>(x) + x * density));
  });
}

template <typename T>
void relu(const T* pre, T* out, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(out, block.load(pre).max(T(0))); });
}

template <typename T>
void relu_backward(const T* pre, const T* dout, T* dpre, Index count) {
  for_blocks<T>(count, [&](auto block) {
    const Lanes<T> slope = (block.load(pre) > T(0)).template cast<T>();
    block.store(dpre, block.load(dout) * slope);
  });
}

template <typename T>
Lanes<T> logistic(const Lanes<T>& x) {
  return T(1) / (T(1) + (-x).exp());
}

/// Gated units (Shazeer, arXiv 2002.05202, section 2): x share(x) * up. SwiGLU has silu(x) = x sigmoid(x), GEGLU has
/// GELU(x) = x Phi(x).
template <typename T, typename Share>
void gated(const T* gate, T* out, Index width, Share share) {
  const T* up = gate + width;
  for_blocks<T>(width, [&](auto block) {
    const Lanes<T> x = block.load(gate);
    block.store(out, x * share(x) * block.load(up));
  });
}

/// slope(x, s) is the derivative of x share(x), with s = share(x).
template <typename T, typename Share, typename Slope>
void gated_backward(const T* gate, const T* dout, T* dgate, Index width, Share share, Slope slope) {
  const T* up = gate + width;
  T* dup = dgate + width;
  for_blocks<T>(width, [&](auto block) {
    const Lanes<T> x = block.load(gate);
    const Lanes<T> s = share(x);
    const Lanes<T> dy = block.load(dout);
    const Lanes<T> dx = dy * block.load(up) * slope(x, s);
    block.store(dup, dy * x * s);
    block.store(dgate, dx);
  });
}

/// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x).
template <typename T>
Lanes<T> silu_slope(const Lanes<T>& x, const Lanes<T>& s) {
  return s * (T(1) + x * (T(1) - s));
}

template <typename T>
Lanes<T> gelu_slope(const Lanes<T>& x, const Lanes<T>& cdf) {
  return cdf + x * normal_density<T>(x);
}

template <typename T>
void activation(Activation kind, const T* pre, T* out, Index rows, Index width) {
  switch (kind) {
    case Activation::Gelu:
      return gelu(pre, out, rows * width);
    case Activation::Relu:
      return relu(pre, out, rows * width);
    case Activation::SwiGlu:
      for (Index r = 0; r < rows; ++r) gated(pre + r * 2 * width, out + r * width, width, logistic<T>);
      return;
    case Activation::GeGlu:
      for (Index r = 0; r < rows; ++r) gated(pre + r * 2 * width, out + r * width, width, normal_cdf<T>);
      return;
  }
}

template <typename T>
void activation_backward(Activation kind, const T* pre, const T* dout, T* dpre, Index rows, Index width) {
  switch (kind) {
    case Activation::Gelu:
      return gelu_backward(pre, dout, dpre, rows * width);
    case Activation::Relu:
      return relu_backward(pre, dout, dpre, rows * width);
    case Activation::SwiGlu:
      for (Index r = 0; r < rows; ++r) {
        gated_backward(pre + r * 2 * width, dout + r * width, dpre + r * 2 * width, width, logistic<T>, silu_slope<T>);
      }
      return;
    case Activation::GeGlu:
      for (Index r = 0; r < rows; ++r) {
        gated_backward(pre + r * 2 * width, dout + r * width, dpre + r * 2 * width, width, normal_cdf<T>,
                       gelu_slope<T>);
      }
      return;
  }
}

}  // namespace

template <typename T>
void add_activation_kernels(Kernels<T>& table) {
  table.bias_add = bias_add<T>;
  table.bias_gradient = bias_gradient<T>;
  table.activation = activation<T>;
  table.activation_backward = activation_backward<T>;
}

template void add_activation_kernels(Kernels<float>&);
template void add_activation_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
