#pragma once

#include <string_view>
#include <vector>

#include "runtime/cpu/kernels.h"

namespace moecast {

/// Instruction sets that the CPU kernels are compiled for. Baseline is what every CPU of the architecture has.
enum class CpuInstructions { Baseline, Avx2 };

[[nodiscard]] std::string_view to_text(CpuInstructions instructions);
/// Those that this build has and this CPU runs, best last. Never empty.
[[nodiscard]] std::vector<CpuInstructions> supported_cpu_instructions();

namespace cpu {

/// The kernel table for supported instructions; T is float or double.
template <typename T>
[[nodiscard]] Kernels<T> kernels_for(CpuInstructions instructions);

}  // namespace cpu
}  // namespace moecast
