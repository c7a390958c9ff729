#include "runtime/comm/inproc.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <latch>
#include <thread>

#include <gtest/gtest.h>

namespace moecast {
namespace {

using std::chrono::milliseconds;

LinkOptions with_timeout(Duration timeout) {
  LinkOptions options;
  options.timeout = timeout;
  return options;
}

/// Runs `body` on a thread for each listed rank and returns what it answered.
std::vector<Status> statuses(const std::vector<int>& ranks, const std::function<Status(int)>& body) {
  std::vector<Status> result(ranks.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    threads.emplace_back([&, i] { result[i] = body(ranks[i]); });
  }
  threads.clear();  // joins
  return result;
}

TEST(InprocFault, RankThatNeverComesIsNamedAfterTheTimeout) {
  auto group = make_inproc_group(4, with_timeout(milliseconds(50)));
  const auto results = statuses({0, 1, 3}, [&](int rank) { return group[static_cast<std::size_t>(rank)]->barrier(); });
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::RunFailed);
    EXPECT_NE(status.error().message.find("for rank 2"), std::string::npos) << status.error().text();
    EXPECT_EQ(status.error().message, results[0].error().message);  // all tell the same story
  }
  // The late rank learns what happened instead of waiting.
  const Status late = group[2]->barrier();
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().message, results[0].error().message);
}

TEST(InprocFault, MissingRanksAreNamedByTheirGlobalNumbers) {
  auto group = make_inproc_group(3, with_timeout(milliseconds(20)), "expert", {Rank(4), Rank(5), Rank(6)});
  const Status status = group[0]->barrier();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("for rank 5, 6"), std::string::npos) << status.error().text();
  EXPECT_NE(status.error().place.find("expert group, rank 4"), std::string::npos) << status.error().text();
}

TEST(InprocFault, AbortReleasesWaitingPeersWithTheReason) {
  auto group = make_inproc_group(3, with_timeout(std::chrono::hours(1)));
  std::atomic<int> waiting = 0;
  const auto results = statuses({0, 1, 2}, [&](int rank) -> Status {
    auto& communicator = *group[static_cast<std::size_t>(rank)];
    if (rank != 1) {
      ++waiting;
      return communicator.barrier();
    }
    while (waiting < 2) std::this_thread::yield();
    communicator.abort({ErrorKind::RunFailed, "L3.Expert.F", "out of memory"});
    return {};
  });
  for (const int rank : {0, 2}) {
    const Status& status = results[static_cast<std::size_t>(rank)];
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("rank 1 gave up: L3.Expert.F: out of memory"), std::string::npos)
        << status.error().text();
  }
}

TEST(InprocFault, AbortEndsAPacedTransferThatWouldTakeAnHour) {
  LinkOptions options = with_timeout(std::chrono::hours(2));
  options.pacing = PacedLink{std::chrono::hours(1), BytesPerSecond(1e9)};
  auto group = make_inproc_group(2, options);
  std::vector<float> values(2, 1.0F);
  std::jthread killer;
  const auto results = statuses({0, 1}, [&](int rank) {
    if (rank == 0) {
      killer = std::jthread([&] {
        std::this_thread::sleep_for(milliseconds(10));
        group[1]->abort({ErrorKind::Interrupted, "", "stopped by the user"});
      });
    }
    return group[static_cast<std::size_t>(rank)]->all_reduce(
        Tensor(&values[static_cast<std::size_t>(rank)], DType::F32, {1}));
  });
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::Interrupted);
  }
}

TEST(InprocFault, LinkThatStallsPastTheTimeoutIsAnError) {
  LinkOptions options = with_timeout(milliseconds(30));
  options.pacing = PacedLink{std::chrono::hours(1), BytesPerSecond(1e9)};
  auto group = make_inproc_group(2, options);
  std::vector<float> values(2, 1.0F);
  const auto results = statuses({0, 1}, [&](int rank) {
    const auto slot = static_cast<std::size_t>(rank);
    return group[slot]->all_reduce(Tensor(&values[slot], DType::F32, {1}));
  });
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("the link stalled"), std::string::npos) << status.error().text();
  }
}

TEST(InprocFault, RanksThatCallDifferentThingsAllGetTheSameError) {
  auto group = make_inproc_group(2, with_timeout(std::chrono::hours(1)));
  std::vector<float> values(2, 1.0F);
  const auto results = statuses({0, 1}, [&](int rank) {
    if (rank == 0) return group[0]->barrier();
    return group[1]->all_reduce(Tensor(values.data(), DType::F32, {2}));
  });
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("rank 0 calls barrier, rank 1 calls all_reduce of 2 elements"),
              std::string::npos)
        << status.error().text();
  }
}

TEST(InprocFault, SegmentsThatDoNotMatchAreAnErrorOnAllRanks) {
  auto group = make_inproc_group(2, with_timeout(std::chrono::hours(1)));
  std::vector<float> send(4, 1.0F);
  std::vector<float> receive(8, 0.0F);
  const auto results = statuses({0, 1}, [&](int rank) {
    const auto slot = static_cast<std::size_t>(rank);
    const Tensor source(send.data() + 2 * slot, DType::F32, {2, 1});
    const Tensor target(receive.data() + 4 * slot, DType::F32, {4, 1});
    const std::vector<Segment> to = {{1 - rank, 0, 2}};
    const std::vector<Segment> from = {{1 - rank, 0, rank == 0 ? 2 : 3}};
    return group[slot]->all_to_all(source, to, target, from);
  });
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.error().message.find("segment 0 from rank 0 has 2 rows of 4 bytes, rank 1 expects 3"),
              std::string::npos)
        << status.error().text();
  }
}

/// A rank that gets an error frees its buffers at once; nobody may still read them (address and thread sanitizers see
/// it).
TEST(InprocFault, BuffersMayBeFreedAsSoonAsTheCallFails) {
  for (int round = 0; round < 50; ++round) {
    auto group = make_inproc_group(3, with_timeout(std::chrono::hours(1)));
    std::atomic<int> calls = 0;
    const auto results = statuses({0, 1, 2}, [&](int rank) -> Status {
      auto& communicator = *group[static_cast<std::size_t>(rank)];
      for (;;) {
        std::vector<float> buffer(20000, 1.0F);
        ++calls;
        const Status status = communicator.all_reduce(Tensor(buffer.data(), DType::F32, {20000}));
        if (!status.ok()) return status;
        if (rank == 2 && calls > 5 + round % 7) communicator.abort({ErrorKind::RunFailed, "", "enough"});
      }
    });
    for (const Status& status : results) ASSERT_FALSE(status.ok());
  }
}

TEST(InprocPacing, NobodyLeavesBeforeTheLinkIsThrough) {
  LinkOptions options;
  options.pacing = PacedLink{milliseconds(2), BytesPerSecond(1e6)};
  auto group = make_inproc_group(2, options);
  std::vector<float> buffer(4000);
  std::latch entered(2);
  const auto results = statuses({0, 1}, [&](int rank) {
    const auto slot = static_cast<std::size_t>(rank);
    const Tensor send(buffer.data() + 1000 * slot, DType::F32, {1000, 1});
    const Tensor receive(buffer.data() + 2000 + 1000 * slot, DType::F32, {1000, 1});
    // 250 rows stay, 750 travel: 3000 bytes at 1 MB/s are 3 ms, and 2 ms of latency.
    const std::vector<Segment> segments = {{rank, 0, 250}, {1 - rank, 250, 750}};
    entered.arrive_and_wait();
    const auto begin = std::chrono::steady_clock::now();  // at the latest when this rank enters
    Status status = group[slot]->all_to_all(send, segments, receive, segments);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(5));
    return status;
  });
  for (const Status& status : results) EXPECT_TRUE(status.ok());
}

}  // namespace
}  // namespace moecast
