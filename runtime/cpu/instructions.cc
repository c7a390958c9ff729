#include "runtime/cpu/instructions.h"

#include "base/assert.h"

namespace moecast {
namespace cpu {

namespace baseline {
template <typename T>
Kernels<T> make_kernels();
}
namespace avx2 {
template <typename T>
Kernels<T> make_kernels();
}

template <typename T>
Kernels<T> kernels_for(CpuInstructions instructions) {
#ifdef MOECAST_CPU_HAS_AVX2
  if (instructions == CpuInstructions::Avx2) return avx2::make_kernels<T>();
#endif
  ASSERT(instructions == CpuInstructions::Baseline, "kernels for {} are not in this build", to_text(instructions));
  return baseline::make_kernels<T>();
}

template Kernels<float> kernels_for<float>(CpuInstructions);
template Kernels<double> kernels_for<double>(CpuInstructions);

}  // namespace cpu

std::string_view to_text(CpuInstructions instructions) {
  switch (instructions) {
    case CpuInstructions::Baseline:
      return "baseline";
    case CpuInstructions::Avx2:
      return "avx2";
  }
  return "";
}

std::vector<CpuInstructions> supported_cpu_instructions() {
  std::vector<CpuInstructions> supported = {CpuInstructions::Baseline};
#ifdef MOECAST_CPU_HAS_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) supported.push_back(CpuInstructions::Avx2);
#endif
  return supported;
}

}  // namespace moecast
