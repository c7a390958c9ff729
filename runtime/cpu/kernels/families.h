#pragma once

#include "runtime/cpu/kernels.h"

#ifndef MOECAST_CPU_ISA
#error "Kernel files are compiled once for each instruction set; see runtime/cpu/CMakeLists.txt"
#endif

/// Everything in this folder lives in a namespace named after the instruction set it is compiled for, and Eigen is
/// renamed likewise on the command line: no symbol is shared between differently compiled copies.
namespace moecast::cpu::MOECAST_CPU_ISA {

// Each fills in its part of the table. Instantiated for float and double.
template <typename T>
void add_elementwise_kernels(Kernels<T>& table);
template <typename T>
void add_gemm_kernels(Kernels<T>& table);
template <typename T>
void add_activation_kernels(Kernels<T>& table);
template <typename T>
void add_norm_kernels(Kernels<T>& table);
template <typename T>
void add_attention_kernels(Kernels<T>& table);
template <typename T>
void add_embedding_kernels(Kernels<T>& table);
template <typename T>
void add_permute_kernels(Kernels<T>& table);
template <typename T>
void add_optimizer_kernels(Kernels<T>& table);

template <typename T>
[[nodiscard]] Kernels<T> make_kernels();

}  // namespace moecast::cpu::MOECAST_CPU_ISA
