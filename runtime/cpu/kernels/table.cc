#include "runtime/cpu/kernels/families.h"

namespace moecast::cpu::MOECAST_CPU_ISA {

template <typename T>
Kernels<T> make_kernels() {
  Kernels<T> table = {};
  add_elementwise_kernels(table);
  add_gemm_kernels(table);
  add_activation_kernels(table);
  add_norm_kernels(table);
  add_attention_kernels(table);
  add_embedding_kernels(table);
  add_permute_kernels(table);
  add_optimizer_kernels(table);
  return table;
}

template Kernels<float> make_kernels<float>();
template Kernels<double> make_kernels<double>();

}  // namespace moecast::cpu::MOECAST_CPU_ISA
