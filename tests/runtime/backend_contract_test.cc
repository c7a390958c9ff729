#include "tests/runtime/backend_contract_suite.h"

#include "runtime/cpu/cpu_backend.h"

namespace moecast::testing {
namespace {

/// F32 and F64 for every instruction set that this CPU has.
std::vector<BackendCase> cpu_cases() {
  std::vector<BackendCase> cases;
  for (const CpuInstructions instructions : supported_cpu_instructions()) {
    const auto make = [instructions] { return make_cpu_backend(instructions); };
    const std::vector<DType> castable = {DType::F32, DType::F64, DType::BF16};
    const std::string name = instructions == CpuInstructions::Baseline ? "CpuBaseline" : "CpuAvx2";
    cases.push_back({name + "F32", make, DType::F32, 2e-5, 2e-5, castable, true});
    cases.push_back({name + "F64", make, DType::F64, 1e-11, 1e-11, castable, true});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Cpu, BackendContract, ::testing::ValuesIn(cpu_cases()), backend_case_name);

}  // namespace
}  // namespace moecast::testing
