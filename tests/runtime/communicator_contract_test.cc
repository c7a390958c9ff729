#include "tests/runtime/communicator_contract_suite.h"

#include "runtime/comm/inproc.h"
#include "runtime/comm/message.h"
#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/fake_nccl_testing.h"
#include "tests/runtime/memory_transport_testing.h"
#include "tests/runtime/queued_backend_testing.h"
#include "tests/runtime/staged_group_testing.h"
#include "tests/runtime/tcp_world_testing.h"

namespace moecast::testing {
namespace {

using Backends = std::span<const std::unique_ptr<Backend>>;

std::vector<CommunicatorCase> inproc_cases() {
  std::vector<CommunicatorCase> cases;
  const auto make = [] { return make_cpu_backend(); };
  for (const int size : {1, 2, 3, 4, 8}) {
    const auto direct = [](Backends ranks) { return make_inproc_group(static_cast<int>(ranks.size()), {}); };
    cases.push_back({"InprocOf" + std::to_string(size), size, direct, make});
  }
  // Pacing changes time, never data.
  const auto paced = [](Backends ranks) {
    LinkOptions options;
    options.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
    return make_inproc_group(static_cast<int>(ranks.size()), options);
  };
  cases.push_back({"PacedInprocOf3", 3, paced, make});
  return cases;
}

std::vector<std::unique_ptr<Communicator>> message_group(std::size_t size, const LinkOptions& options,
                                                         bool rendezvous) {
  std::vector<Rank> members;
  for (std::size_t rank = 0; rank < size; ++rank) members.emplace_back(static_cast<std::int32_t>(rank));
  std::vector<std::unique_ptr<Communicator>> group;
  for (auto& end : make_memory_network(static_cast<int>(size), rendezvous)) {
    group.push_back(make_message_communicator(std::move(end), options, "world", members));
  }
  return group;
}

std::vector<CommunicatorCase> message_cases() {
  std::vector<CommunicatorCase> cases;
  const auto make = [] { return make_cpu_backend(); };
  for (const int size : {1, 2, 3, 5}) {
    for (const bool rendezvous : {false, true}) {
      const auto group = [rendezvous](Backends ranks) { return message_group(ranks.size(), {}, rendezvous); };
      cases.push_back({(rendezvous ? "RendezvousOf" : "EagerOf") + std::to_string(size), size, group, make});
    }
  }
  LinkOptions paced;
  paced.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
  cases.push_back({"PacedOf2", 2, [paced](Backends ranks) { return message_group(ranks.size(), paced, false); }, make});
  return cases;
}

std::vector<CommunicatorCase> staged_cases() {
  std::vector<CommunicatorCase> cases;
  for (const int size : {1, 2, 4, 8}) {
    cases.push_back({"QueuedOf" + std::to_string(size), size, make_staged_group, make_queued_backend});
  }
  return cases;
}

/// Ends of a world whose ranks are threads here; the connections outlive the world that made them.
std::vector<std::unique_ptr<Communicator>> tcp_group(std::size_t size) {
  std::vector<std::unique_ptr<Communicator>> group(size);
  on_tcp_ranks(static_cast<int>(size), [&](ProcessWorld& world) {
    auto own = world.make_world_group("world", {});
    ASSERT_TRUE(own.ok()) << own.error().text();
    group[static_cast<std::size_t>(world.rank())] = std::move(own).value();
  });
  return group;
}

std::vector<CommunicatorCase> tcp_cases() {
  std::vector<CommunicatorCase> cases;
  const auto group = [](Backends ranks) { return tcp_group(ranks.size()); };
  for (const int size : {2, 3, 5}) {
    cases.push_back({"TcpOf" + std::to_string(size), size, group, [] { return make_cpu_backend(); }});
  }
  return cases;
}

std::vector<CommunicatorCase> nccl_cases() {
  std::vector<CommunicatorCase> cases;
  for (const int size : {1, 2, 3, 5}) {
    cases.push_back({"FakeOf" + std::to_string(size), size, make_fake_nccl_group, make_queued_backend});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Nccl, CommunicatorContract, ::testing::ValuesIn(nccl_cases()), communicator_case_name);
INSTANTIATE_TEST_SUITE_P(Tcp, CommunicatorContract, ::testing::ValuesIn(tcp_cases()), communicator_case_name);
INSTANTIATE_TEST_SUITE_P(Staged, CommunicatorContract, ::testing::ValuesIn(staged_cases()), communicator_case_name);
INSTANTIATE_TEST_SUITE_P(Message, CommunicatorContract, ::testing::ValuesIn(message_cases()), communicator_case_name);
INSTANTIATE_TEST_SUITE_P(Inproc, CommunicatorContract, ::testing::ValuesIn(inproc_cases()), communicator_case_name);

}  // namespace
}  // namespace moecast::testing
