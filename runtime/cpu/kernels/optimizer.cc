#include "runtime/cpu/kernels/blocks.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

/// AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), the learning rate
/// multiplying both the step and the decay: theta -= rate (m^ / (sqrt(v^) + epsilon) + decay theta).
template <typename T>
void adamw(const AdamW<T>& step, T* master, const T* gradient, T* first_moment, T* second_moment, Index count) {
  for_blocks<T>(count, [&](auto block) {
    const Lanes<T> g = block.load(gradient) * step.scale;
    const Lanes<T> m = block.load(first_moment) * step.beta1 + g * step.rest1;
    const Lanes<T> v = block.load(second_moment) * step.beta2 + g.square() * step.rest2;
    const Lanes<T> theta = block.load(master);
    const Lanes<T> direction = m * step.correction1 / ((v * step.correction2).sqrt() + step.epsilon);
    block.store(first_moment, m);
    block.store(second_moment, v);
    block.store(master, theta - step.rate * (direction + step.decay * theta));
  });
}

/// Collected in double, in an order that depends on the count alone.
template <typename T>
double squared_norm(const T* x, Index count) {
  using Sums = Eigen::Array<double, kLanes<T>, 1>;
  Sums sums = Sums::Zero();
  for_blocks<T>(count, [&](auto block) {
    const Lanes<T> value = block.load(x);
    sums += value.template cast<double>().square();
  });
  return sums.sum();
}

}  // namespace

template <typename T>
void add_optimizer_kernels(Kernels<T>& table) {
  table.adamw = adamw<T>;
  table.squared_norm = squared_norm<T>;
}

template void add_optimizer_kernels(Kernels<float>&);
template void add_optimizer_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
