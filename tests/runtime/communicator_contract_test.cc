#include "tests/runtime/communicator_contract_suite.h"

#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"

namespace moecast::testing {
namespace {

std::vector<CommunicatorCase> inproc_cases() {
  std::vector<CommunicatorCase> cases;
  const auto make = [] { return make_cpu_backend(); };
  for (const int size : {1, 2, 3, 4, 8}) {
    const auto direct = [](int ranks) { return make_inproc_group(ranks, {}); };
    cases.push_back({"InprocOf" + std::to_string(size), size, direct, make});
  }
  // Pacing changes time, never data.
  const auto paced = [](int ranks) {
    InprocOptions options;
    options.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
    return make_inproc_group(ranks, options);
  };
  cases.push_back({"PacedInprocOf3", 3, paced, make});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Inproc, CommunicatorContract, ::testing::ValuesIn(inproc_cases()), communicator_case_name);

}  // namespace
}  // namespace moecast::testing
