#include "tests/runtime/communicator_contract_suite.h"

#include "runtime/comm/inproc.h"
#include "runtime/comm/message.h"
#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/memory_transport_testing.h"

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
    LinkOptions options;
    options.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
    return make_inproc_group(ranks, options);
  };
  cases.push_back({"PacedInprocOf3", 3, paced, make});
  return cases;
}

std::vector<std::unique_ptr<Communicator>> message_group(int size, const LinkOptions& options, bool rendezvous) {
  std::vector<Rank> members;
  for (int rank = 0; rank < size; ++rank) members.emplace_back(rank);
  std::vector<std::unique_ptr<Communicator>> group;
  for (auto& end : make_memory_network(size, rendezvous)) {
    group.push_back(make_message_communicator(std::move(end), options, "world", members));
  }
  return group;
}

std::vector<CommunicatorCase> message_cases() {
  std::vector<CommunicatorCase> cases;
  const auto make = [] { return make_cpu_backend(); };
  for (const int size : {1, 2, 3, 5}) {
    for (const bool rendezvous : {false, true}) {
      const auto group = [rendezvous](int ranks) { return message_group(ranks, {}, rendezvous); };
      cases.push_back({(rendezvous ? "RendezvousOf" : "EagerOf") + std::to_string(size), size, group, make});
    }
  }
  LinkOptions paced;
  paced.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
  cases.push_back({"PacedOf2", 2, [paced](int ranks) { return message_group(ranks, paced, false); }, make});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Message, CommunicatorContract, ::testing::ValuesIn(message_cases()), communicator_case_name);
INSTANTIATE_TEST_SUITE_P(Inproc, CommunicatorContract, ::testing::ValuesIn(inproc_cases()), communicator_case_name);

}  // namespace
}  // namespace moecast::testing
