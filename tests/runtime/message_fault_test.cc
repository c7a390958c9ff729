#include "runtime/comm/message.h"

#include <array>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runtime/memory_transport_testing.h"

namespace moecast {
namespace {

using std::chrono::milliseconds;
using Group = std::vector<std::unique_ptr<Communicator>>;

/// Ranks 4, 5, ... of a run.
Group make_group(int size, const LinkOptions& options) {
  std::vector<Rank> members;
  for (int rank = 0; rank < size; ++rank) members.emplace_back(4 + rank);
  Group group;
  for (auto& end : testing::make_memory_network(size, true)) {
    group.push_back(make_message_communicator(std::move(end), options, "expert", members));
  }
  return group;
}

LinkOptions with_timeout(Duration timeout) {
  LinkOptions options;
  options.timeout = timeout;
  return options;
}

std::vector<std::string> messages(Group& group, const std::function<Status(Communicator&)>& body) {
  std::vector<std::string> out(group.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < group.size(); ++i) {
    threads.emplace_back([&, i] {
      const Status status = body(*group[i]);
      out[i] = status.ok() ? "fine" : status.error().text();
    });
  }
  threads.clear();  // joins
  return out;
}

void expect_all(const std::vector<std::string>& texts, const std::string& part) {
  for (const std::string& text : texts) EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(MessageFault, ARankThatNeverComesIsNamedByItsGlobalNumber) {
  Group group = make_group(3, with_timeout(milliseconds(60)));
  const auto texts = messages(group, [](Communicator& end) { return end.rank() == 1 ? Status() : end.barrier(); });
  EXPECT_EQ(texts[1], "fine");
  for (const std::size_t rank : {0, 2}) {
    EXPECT_NE(texts[rank].find("in vain for rank 5"), std::string::npos) << texts[rank];
  }
  // The late rank learns what happened instead of waiting.
  const Status late = group[1]->barrier();
  ASSERT_FALSE(late.ok());
  EXPECT_NE(late.error().text().find("in vain for rank 5"), std::string::npos) << late.error().text();
}

TEST(MessageFault, AbortReleasesWaitingPeersWithTheReason) {
  Group group = make_group(3, with_timeout(std::chrono::hours(1)));
  const auto texts = messages(group, [](Communicator& end) {
    if (end.rank() != 1) return end.barrier();
    end.abort({ErrorKind::Interrupted, "L3.Expert.F", "stopped by the user"});
    return end.barrier();
  });
  expect_all(texts, "rank 5 gave up: L3.Expert.F: stopped by the user");
}

TEST(MessageFault, AnEndedCallStandsWhateverComesAfterIt) {
  Group group = make_group(4, with_timeout(std::chrono::hours(1)));
  const auto texts = messages(group, [](Communicator& end) -> Status {
    RETURN_IF_ERROR(end.barrier());  // the one that aborts has ended it: nobody may lose it
    if (end.rank() == 0) end.abort({ErrorKind::RunFailed, "", "later"});
    return {};
  });
  EXPECT_EQ(texts, std::vector<std::string>(4, "fine"));
}

TEST(MessageFault, RanksThatCallDifferentThingsAllGetAnError) {
  Group group = make_group(2, with_timeout(std::chrono::hours(1)));
  std::array<float, 2> values{};
  const auto texts = messages(group, [&](Communicator& end) {
    return end.rank() == 0 ? end.barrier() : end.all_reduce(Tensor(values.data(), DType::F32, {2}));
  });
  expect_all(texts, "rank 5 calls all_reduce as number 1 of 2 elements of 4 bytes");
}

TEST(MessageFault, ASenderAndItsReceiverMustAgreeOnTheRows) {
  Group group = make_group(2, with_timeout(std::chrono::hours(1)));
  std::array<float, 16> memory{};
  const auto texts = messages(group, [&](Communicator& end) {
    const Tensor rows(memory.data() + 8 * end.rank(), DType::F32, {4, 2});
    const int peer = 1 - end.rank();
    const std::array<Segment, 1> send{{{peer, 0, 2}}}, receive{{{peer, 2, end.rank() == 0 ? 2 : 1}}};
    return end.all_to_all(rows, send, rows, receive);
  });
  expect_all(texts, "all_to_all: rank 4 sends 16 bytes, rank 5 expects 8");
}

TEST(MessageFault, ALinkThatStallsPastTheTimeoutIsAnError) {
  LinkOptions options = with_timeout(milliseconds(30));
  options.pacing = PacedLink{std::chrono::hours(1), BytesPerSecond(1e9)};
  Group group = make_group(2, options);
  std::array<float, 2> values{};
  const auto texts = messages(group, [&](Communicator& end) {
    return end.all_reduce(Tensor(&values[static_cast<std::size_t>(end.rank())], DType::F32, {1}));
  });
  expect_all(texts, "the link stalled");
}

}  // namespace
}  // namespace moecast
