#pragma once

#include "runtime/cpu/kernels/families.h"

namespace moecast::cpu::MOECAST_CPU_ISA {

template <typename T>
void gemm(const Gemm<T>& product, Scratch& scratch);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
