#include <cmath>

#include "runtime/cpu/kernels/blocks.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

/// sum of (x - mean)^2. Missing elements of the last block read as the mean, so that their terms are zero.
template <typename T>
T squared_deviation(const T* x, T mean, Index columns) {
  return sum_blocks<T>(columns, [&](auto block) { return (block.load_or(x, mean) - mean).square().eval(); });
}

/// LayerNorm (Ba, Kiros & Hinton, arXiv 1607.06450): xhat = (x - mean) / sqrt(variance + epsilon), y = gain xhat +
/// bias. RMSNorm (Zhang & Sennrich, arXiv 1910.07467, equation 4): xhat = x / sqrt(mean(x^2) + epsilon), y = gain xhat.
template <typename T>
void norm(const NormCall<T>& call, const T* bias, double epsilon, T* y) {
  const Index n = call.columns;
  for (Index r = 0; r < call.rows; ++r, y += n) {
    const T* x = call.x + r * n;
    const T mean = call.center ? sum_blocks<T>(n, [&](auto block) { return block.load(x); }) / static_cast<T>(n) : T(0);
    const T variance = squared_deviation(x, mean, n) / static_cast<T>(n);
    const T rstd = T(1) / std::sqrt(variance + static_cast<T>(epsilon));
    if (call.mean != nullptr) call.mean[r] = mean;
    call.rstd[r] = rstd;
    for_blocks<T>(n, [&](auto block) {
      const Lanes<T> scaled = (block.load(x) - mean) * rstd * block.load(call.gain);
      if (bias == nullptr) {
        block.store(y, scaled);
      } else {
        block.store(y, scaled + block.load(bias));
      }
    });
  }
}

/// With g = dy * gain: dx = rstd (g - mean(g) - xhat mean(g xhat)); RMSNorm has no mean(g) term.
template <typename T>
void norm_backward(const NormCall<T>& call, const T* dy, T* dx, bool accumulate, T* dgain, T* dbias) {
  const Index n = call.columns;
  for (Index r = 0; r < call.rows; ++r, dy += n, dx += n) {
    const T* x = call.x + r * n;
    const T rstd = call.rstd[r];
    const T mean = call.center ? call.mean[r] : T(0);
    const T g_mean = call.center ? dot(dy, call.gain, n) / static_cast<T>(n) : T(0);
    const T gx_mean =
        sum_blocks<T>(n,
                      [&](auto block) {
                        return (block.load(dy) * block.load(call.gain) * (block.load(x) - mean) * rstd).eval();
                      }) /
        static_cast<T>(n);
    for_blocks<T>(n, [&](auto block) {
      const Lanes<T> xhat = (block.load(x) - mean) * rstd;
      const Lanes<T> gradient = rstd * (block.load(dy) * block.load(call.gain) - g_mean - xhat * gx_mean);
      block.store(dgain, block.load(dgain) + block.load(dy) * xhat);
      if (dbias != nullptr) block.store(dbias, block.load(dbias) + block.load(dy));
      if (accumulate) {
        block.store(dx, block.load(dx) + gradient);
      } else {
        block.store(dx, gradient);
      }
    });
  }
}

}  // namespace

template <typename T>
void add_norm_kernels(Kernels<T>& table) {
  table.norm = norm<T>;
  table.norm_backward = norm_backward<T>;
}

template void add_norm_kernels(Kernels<float>&);
template void add_norm_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
