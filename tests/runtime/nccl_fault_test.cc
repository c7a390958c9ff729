#include <array>
#include <thread>

#include <gtest/gtest.h>

#include "runtime/comm/inproc.h"
#include "tests/runtime/fake_nccl_testing.h"
#include "tests/runtime/queued_backend_testing.h"
#include "tests/runtime/tcp_world_testing.h"

// A fake NCCL whose calls hang as on a device: what the communicator makes of it.

namespace moecast::testing {
namespace {

using std::chrono::milliseconds;
using Ends = std::vector<std::unique_ptr<Communicator>>;

class NcclFault : public ::testing::Test {
 protected:
  void SetUp() override {
    reset_fake_nccl_log();
    for (int rank = 0; rank < 2; ++rank) backends_.push_back(make_queued_backend());
  }
  void TearDown() override { set_fake_nccl_error(0); }

  [[nodiscard]] Ends make_group(const NcclOptions& options) const {
    Ends ends;
    for (auto& host : make_inproc_group(2, {})) {
      Backend& backend = *backends_[static_cast<std::size_t>(host->rank())];
      ends.push_back(make_owning_nccl(fake_nccl(), std::move(host), backend, options));
    }
    return ends;
  }

  /// What each rank gets from `body`, then from the device.
  [[nodiscard]] std::array<std::string, 2> texts(const Ends& ends, const std::function<Status(Communicator&)>& body) {
    std::array<std::string, 2> out;
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        Status status = body(*ends[rank]);
        backends_[rank]->synchronize(Lane::Comm);
        if (status.ok()) status = ends[rank]->check();
        out[rank] = status.ok() ? "fine" : status.error().text();
      });
    }
    threads.clear();  // joins
    return out;
  }

  std::vector<std::unique_ptr<Backend>> backends_;
  std::array<float, 2> values_ = {1, 2};

  Status sum(Communicator& end) {
    return end.all_reduce(Tensor(&values_[static_cast<std::size_t>(end.rank())], DType::F32, {1}));
  }
};

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(NcclFault, RowsForOthersAreSentAndEmptyOnesAreNot) {
  const Ends ends = make_group({.max_ctas = 4});
  std::array<float, 16> memory{};
  const auto all = texts(ends, [&](Communicator& end) {
    const int peer = 1 - end.rank();
    const Tensor rows(memory.data() + 8 * end.rank(), DType::F32, {4, 2});
    const std::array<Segment, 3> segments{{{peer, 0, 1}, {peer, 1, 0}, {end.rank(), 2, 1}}};
    const std::array<Segment, 3> receive{{{peer, 1, 1}, {peer, 0, 0}, {end.rank(), 3, 1}}};
    return end.all_to_all(rows, segments, rows, receive);
  });
  EXPECT_EQ(all, (std::array<std::string, 2>{"fine", "fine"}));
  EXPECT_EQ(fake_nccl_log().sends, 2);
  EXPECT_EQ(fake_nccl_log().receives, 2);
  EXPECT_EQ(fake_nccl_log().largest_ctas, 4);
}

TEST_F(NcclFault, EndsInPeace) {
  {
    EXPECT_EQ(texts(make_group({}), [&](Communicator& end) { return sum(end); })[0], "fine");
  }
  EXPECT_EQ(fake_nccl_log().destroyed, 2);
  EXPECT_EQ(fake_nccl_log().aborted, 0);
}

TEST_F(NcclFault, ACallThatDoesNotEndIsAbortedAndThePeerHears) {
  const Ends ends = make_group({.timeout = milliseconds(200)});
  const auto all = texts(ends, [&](Communicator& end) -> Status {
    RETURN_IF_ERROR(sum(end));
    return end.rank() == 0 ? sum(end) : Status();
  });
  expect_part(all[0], "all_reduce, call number 2, did not end within 200 ms");
  EXPECT_EQ(all[1], "fine");
  const Status late = ends[1]->barrier();
  ASSERT_FALSE(late.ok());
  expect_part(late.error().text(), "rank 0 gave up: nccl, world group, position 0 of 2: all_reduce, call number 2");
}

TEST_F(NcclFault, APeerThatNeverStartsNcclIsMissed) {
  const Ends ends = make_group({.timeout = milliseconds(200)});
  // Rank 1 leaves while rank 0 waits for it.
  const auto all = texts(ends, [&](Communicator& end) -> Status {
    if (end.rank() == 0) return sum(end);
    end.abort({ErrorKind::RunFailed, "", "no GPU left"});
    return {};
  });
  expect_part(all[0], "rank 1 gave up: no GPU left");
  EXPECT_EQ(fake_nccl_log().open, 0);
}

TEST_F(NcclFault, AnErrorThatNcclReportsClosesTheGroupForAll) {
  const Ends ends = make_group({});
  EXPECT_EQ(texts(ends, [&](Communicator& end) { return sum(end); })[0], "fine");
  set_fake_nccl_error(6);
  const auto all = texts(ends, [&](Communicator& end) { return sum(end); });
  for (const std::string& text : all) expect_part(text, "fake error 6");
  EXPECT_EQ(fake_nccl_log().aborted, 2);
}

TEST_F(NcclFault, AGroupIsBuiltAnewAfterAFailure) {
  Ends ends = make_group({.timeout = milliseconds(100)});
  const auto failed = texts(ends, [&](Communicator& end) -> Status {
    RETURN_IF_ERROR(sum(end));
    return end.rank() == 1 ? sum(end) : Status();
  });
  EXPECT_NE(failed[1], "fine");
  EXPECT_NE(texts(ends, [&](Communicator& end) { return sum(end); })[0], "fine");
  ends = make_group({});
  values_ = {1, 2};
  EXPECT_EQ(texts(ends, [&](Communicator& end) { return sum(end); }), (std::array<std::string, 2>{"fine", "fine"}));
  EXPECT_EQ(values_, (std::array<float, 2>{3, 3}));
  EXPECT_EQ(fake_nccl_log().aborted, 2);
  EXPECT_EQ(fake_nccl_log().open, 2);
}

TEST_F(NcclFault, ARankWhoseProcessEndsReleasesTheDevice) {
  std::array<std::string, 2> out;
  on_tcp_ranks(2, [&](ProcessWorld& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    auto host = world.make_world_group("world", {{}, std::chrono::hours(1)});
    ASSERT_TRUE(host.ok());
    const auto end =
        make_owning_nccl(fake_nccl(), std::move(host).value(), *backends_[rank], {.timeout = std::chrono::hours(1)});
    ASSERT_TRUE(sum(*end).ok());
    backends_[rank]->synchronize(Lane::Comm);
    ASSERT_TRUE(end->check().ok());
    ASSERT_TRUE(end->barrier().ok());
    if (rank == 1) return;
    Status status = sum(*end);  // hangs
    backends_[rank]->synchronize(Lane::Comm);
    if (status.ok()) status = end->check();
    out[rank] = status.ok() ? "fine" : status.error().text();
  });
  expect_part(out[0], "rank 1 is gone");
}

}  // namespace
}  // namespace moecast::testing
