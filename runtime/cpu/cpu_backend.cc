#include "runtime/cpu/cpu_backend.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "runtime/cpu/cpu_backend_class.h"

namespace moecast {
namespace cpu {
namespace {

/// "model name : AMD EPYC ..." of the first processor; what Linux says on x86.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

}  // namespace

CpuBackend::CpuBackend(CpuInstructions instructions)
    : instructions_(instructions),
      kernels_f32_(kernels_for<float>(instructions)),
      kernels_f64_(kernels_for<double>(instructions)) {}

std::string CpuBackend::device_name() const { return fmt::format("{} ({})", processor_name(), to_text(instructions_)); }

}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend() { return make_cpu_backend(supported_cpu_instructions().back()); }

std::unique_ptr<Backend> make_cpu_backend(CpuInstructions instructions) {
  const std::vector<CpuInstructions> supported = supported_cpu_instructions();
  ASSERT(std::ranges::count(supported, instructions) == 1, "this CPU has no {}", to_text(instructions));
  return std::make_unique<cpu::CpuBackend>(instructions);
}

}  // namespace moecast
