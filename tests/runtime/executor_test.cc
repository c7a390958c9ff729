#include "runtime/executor.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <latch>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#ifdef __linux__
#include <sched.h>
#endif

#include "runtime/cpu/cpu_backend.h"
#include "runtime/prompt_wakeup.h"
#include "tests/runtime/fake_stream_backend_testing.h"

namespace moecast {
namespace {

using testing::FakeStreamBackend;

/// A plan from (lane, dependencies) rows.
StepPlan make_plan(const std::vector<std::pair<Lane, std::vector<int>>>& rows) {
  StepPlan plan;
  for (const auto& [lane, dependencies] : rows) {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(plan.operators.size()));
    op.lane = lane;
    for (const int dependency : dependencies) op.dependencies.emplace_back(dependency);
    plan.operators.push_back(op);
  }
  return plan;
}

/// Runs a function for every operator and writes down the order in which they ended.
class FakeRunner final : public OperatorRunner {
 public:
  explicit FakeRunner(std::function<Status(const Operator&)> action = [](const Operator&) { return Status(); })
      : action_(std::move(action)) {}

  Status run(const Operator& op) override {
    const Status status = action_(op);
    const std::lock_guard lock(mutex_);
    ended.push_back(op.id.value());
    return status;
  }
  void abandon(const Error& reason) override {
    abandoned.push_back(reason.message);
    if (on_abandon) on_abandon();
  }
  [[nodiscard]] bool has_ended(int op) {
    const std::lock_guard lock(mutex_);
    return std::find(ended.begin(), ended.end(), op) != ended.end();
  }

  std::vector<int> ended;
  std::vector<std::string> abandoned;
  std::function<void()> on_abandon;

 private:
  std::function<Status(const Operator&)> action_;
  std::mutex mutex_;
};

struct Threaded {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  SteadyClock clock;
  std::unique_ptr<Executor> executor = make_executor(*backend, clock);
};

constexpr Lane kCompute = Lane::Compute;
constexpr Lane kComm = Lane::Comm;

TEST(LaneExecutor, OperatorRunsAfterItsDependenciesOnOtherLanes) {
  Threaded threaded;
  const StepPlan plan =
      make_plan({{kCompute, {}}, {kComm, {0}}, {kComm, {}}, {kCompute, {1}}, {kComm, {3}}, {kCompute, {2, 4}}});
  FakeRunner* seen = nullptr;
  FakeRunner runner([&](const Operator& op) -> Status {
    for (const OpId dependency : op.dependencies) {
      EXPECT_TRUE(seen->has_ended(dependency.value())) << op.id.value() << " before " << dependency.value();
    }
    return {};
  });
  seen = &runner;
  for (int step = 0; step < 200; ++step) {
    runner.ended.clear();
    const auto spans = threaded.executor->run_step(plan, runner, step, Rank(0));
    ASSERT_TRUE(spans.ok()) << spans.error().text();
    ASSERT_EQ(runner.ended.size(), plan.operators.size());
  }
}

TEST(LaneExecutor, LanesRunBesideEachOther) {
  Threaded threaded;
  // Each of the three waits until all three are running: on one thread this would never end.
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {}}, {Lane::Storage, {}}});
  std::latch all_running(3);
  FakeRunner runner([&](const Operator&) -> Status {
    all_running.arrive_and_wait();
    return {};
  });
  EXPECT_TRUE(threaded.executor->run_step(plan, runner, 0, Rank(0)).ok());
}

TEST(LaneExecutor, ComputeRunsOnTheCallerAndEveryOtherLaneKeepsItsThread) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {}}, {kCompute, {1}}, {kComm, {2}}});
  std::mutex mutex;
  std::map<Lane, std::set<std::thread::id>> threads;
  FakeRunner runner([&](const Operator& op) -> Status {
    const std::lock_guard lock(mutex);
    threads[op.lane].insert(std::this_thread::get_id());
    return {};
  });
  for (int step = 0; step < 3; ++step) ASSERT_TRUE(threaded.executor->run_step(plan, runner, step, Rank(0)).ok());
  EXPECT_EQ(threads[kCompute], std::set{std::this_thread::get_id()});
  EXPECT_EQ(threads[kComm].size(), 1U);
  EXPECT_FALSE(threads[kComm].contains(std::this_thread::get_id()));
}

#ifdef __linux__
TEST(LaneExecutor, CommunicationAloneGetsTheBestWakeupThatTheSystemGrants) {
  Wakeup granted = Wakeup::InTurn;
  std::thread([&] { granted = ask_for_prompt_wakeups(); }).join();
  Threaded threaded;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {}}, {Lane::Storage, {}}});
  std::mutex mutex;
  std::map<Lane, int> policy;
  FakeRunner runner([&](const Operator& op) -> Status {
    const std::lock_guard lock(mutex);
    policy[op.lane] = sched_getscheduler(0);
    return {};
  });
  ASSERT_TRUE(threaded.executor->run_step(plan, runner, 0, Rank(0)).ok());
  const int ours = sched_getscheduler(0);
  EXPECT_EQ(policy[kComm], granted == Wakeup::RealTime ? SCHED_FIFO : ours);
  EXPECT_EQ(policy[kCompute], ours);
  EXPECT_EQ(policy[Lane::Storage], ours);
}
#endif

TEST(LaneExecutor, OneLaneKeepsPlanOrderAndItsSpansFollowEachOther) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kComm, {}}, {kCompute, {}}, {kComm, {}}, {kCompute, {}}, {kComm, {}}});
  FakeRunner runner;
  const auto spans = threaded.executor->run_step(plan, runner, 7, Rank(3));
  ASSERT_TRUE(spans.ok());
  std::vector<int> order;
  for (const Span& span : *spans) order.push_back(span.op.value());
  EXPECT_EQ(order, (std::vector<int>{1, 3, 0, 2, 4}));  // by lane, then start
  for (std::size_t i = 0; i < spans->size(); ++i) {
    const Span& span = (*spans)[i];
    EXPECT_EQ(span.step, 7);
    EXPECT_EQ(span.rank, Rank(3));
    EXPECT_EQ(span.lane, plan.operators[span.op.index()].lane);
    EXPECT_LE(span.start, span.end);
    if (i > 0 && (*spans)[i - 1].lane == span.lane) {
      EXPECT_LE((*spans)[i - 1].end, span.start);
    }
  }
}

TEST(LaneExecutor, SpanBeginsOnlyWhenTheDependencyIsDone) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kComm, {}}, {kCompute, {0}}});
  FakeRunner runner;
  const auto spans = threaded.executor->run_step(plan, runner, 0, Rank(0));
  ASSERT_TRUE(spans.ok());
  EXPECT_GE((*spans)[0].start, (*spans)[1].end);
}

TEST(LaneExecutor, ErrorOnOneLaneStopsAllLanesAndNamesRankAndOperator) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {0}}, {kCompute, {1}}, {kComm, {2}}, {kCompute, {}}});
  FakeRunner runner([](const Operator& op) -> Status {
    if (op.id == OpId(1)) return Error{ErrorKind::RunFailed, "", "the link broke"};
    return {};
  });
  const auto spans = threaded.executor->run_step(plan, runner, 0, Rank(5));
  ASSERT_FALSE(spans.ok());
  EXPECT_EQ(spans.error().message, "the link broke");
  EXPECT_NE(spans.error().place.find("rank 5, operator 1"), std::string::npos) << spans.error().place;
  EXPECT_EQ(runner.ended, (std::vector<int>{0, 1}));
  EXPECT_EQ(runner.abandoned, (std::vector<std::string>{"the link broke"}));
}

TEST(LaneExecutor, ExceptionBecomesTheError) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {0}}});
  FakeRunner runner([](const Operator& op) -> Status {
    if (op.lane == kComm) throw std::runtime_error("thrown by a library");
    return {};
  });
  const auto spans = threaded.executor->run_step(plan, runner, 0, Rank(0));
  ASSERT_FALSE(spans.ok());
  EXPECT_EQ(spans.error().message, "thrown by a library");
}

TEST(LaneExecutor, AbandonReleasesAnOperatorThatBlocksOnAnotherLane) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kComm, {}}, {kCompute, {}}});
  std::latch blocked(1);
  std::latch released(1);
  FakeRunner runner([&](const Operator& op) -> Status {
    if (op.lane == kComm) {
      blocked.count_down();
      released.wait();
      return Error{ErrorKind::RunFailed, "", "a consequence"};
    }
    blocked.wait();
    return Error{ErrorKind::RunFailed, "", "the cause"};
  });
  runner.on_abandon = [&] { released.count_down(); };
  const auto spans = threaded.executor->run_step(plan, runner, 0, Rank(0));
  ASSERT_FALSE(spans.ok());
  EXPECT_EQ(spans.error().message, "the cause");
  EXPECT_EQ(runner.abandoned.size(), 1U);
}

TEST(LaneExecutor, RunsAgainAfterAnError) {
  Threaded threaded;
  const StepPlan plan = make_plan({{kComm, {}}, {kCompute, {0}}, {kComm, {1}}});
  FakeRunner failing([](const Operator&) -> Status { return Error{ErrorKind::RunFailed, "", "no"}; });
  FakeRunner working;
  EXPECT_FALSE(threaded.executor->run_step(plan, failing, 0, Rank(0)).ok());
  EXPECT_TRUE(threaded.executor->run_step(plan, working, 1, Rank(0)).ok());
  EXPECT_EQ(working.ended, (std::vector<int>{0, 1, 2}));
}

TEST(LaneExecutor, PlansMayChangeFromStepToStep) {
  Threaded threaded;
  for (int count = 1; count < 40; ++count) {
    std::vector<std::pair<Lane, std::vector<int>>> rows = {{kCompute, {}}};
    for (int i = 1; i < count; ++i) rows.push_back({i % 2 == 0 ? kCompute : kComm, {i - 1}});
    FakeRunner runner;
    const auto spans = threaded.executor->run_step(make_plan(rows), runner, count, Rank(0));
    ASSERT_TRUE(spans.ok());
    EXPECT_EQ(spans->size(), static_cast<std::size_t>(count));
    EXPECT_TRUE(std::is_sorted(runner.ended.begin(), runner.ended.end()));
  }
}

// Asynchronous backends ----------------------------------------------------------------------------------------------

using Lines = std::vector<std::string>;

struct Streams {
  FakeStreamBackend backend;
  ManualClock clock;
  std::unique_ptr<Executor> executor = make_executor(backend, clock);

  FakeRunner runner(Duration length = std::chrono::microseconds(10)) {
    return FakeRunner([this, length](const Operator& op) -> Status {
      backend.work(op.lane, op.id, length);
      return {};
    });
  }
};

TEST(StreamLanes, EachIssuesInPlanOrderAndWaitsForOtherLanesOnly) {
  Streams streams;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {0}}, {kCompute, {0}}, {kCompute, {1, 2}}});
  FakeRunner runner = streams.runner();
  ASSERT_TRUE(streams.executor->run_step(plan, runner, 0, Rank(0)).ok());
  EXPECT_EQ(streams.backend.reserved_events(), 9);
  EXPECT_EQ(streams.backend.log(kCompute),
            (Lines{"record 0", "record 1", "run 0", "record 2", "record 5", "run 2", "record 6",  // same lane: no wait
                   "wait 4", "record 7", "run 3", "record 8", "synchronize"}));
  EXPECT_EQ(streams.backend.log(kComm), (Lines{"wait 0", "wait 2", "record 3", "run 1", "record 4", "synchronize"}));
}

TEST(StreamLanes, WaitOnceForTheLatestOfALane) {
  Streams streams;
  const StepPlan plan = make_plan({{kComm, {}}, {kComm, {}}, {kCompute, {0, 1}}, {kCompute, {0}}, {kCompute, {1}}});
  FakeRunner runner = streams.runner();
  ASSERT_TRUE(streams.executor->run_step(plan, runner, 0, Rank(0)).ok());
  const Lines log = streams.backend.log(kCompute);
  EXPECT_EQ(std::count(log.begin(), log.end(), "wait 4"), 1);  // the end of operator 1, which is after operator 0
  EXPECT_EQ(std::count(log.begin(), log.end(), "wait 2"), 0);
}

TEST(StreamLanes, SpansComeFromEventTimes) {
  using std::chrono::microseconds;
  Streams streams;
  streams.clock.advance(microseconds(1000));
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {0}}, {kCompute, {}}, {kCompute, {1}}});
  FakeRunner runner = streams.runner(microseconds(10));
  const auto spans = streams.executor->run_step(plan, runner, 2, Rank(1));
  ASSERT_TRUE(spans.ok());
  const auto at = [](int us) { return Instant(microseconds(us)); };
  ASSERT_EQ(spans->size(), 4U);
  const std::vector<std::tuple<int, Instant, Instant>> expected = {
      {0, at(1000), at(1010)}, {2, at(1010), at(1020)}, {3, at(1020), at(1030)}, {1, at(1010), at(1020)}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Span& span = (*spans)[i];
    EXPECT_EQ(std::make_tuple(span.op.value(), span.start, span.end), expected[i]) << i;
    EXPECT_EQ(span.step, 2);
    EXPECT_EQ(span.rank, Rank(1));
  }
}

/// A collective through host memory keeps its thread until its peers have come.
TEST(StreamLanes, ACallThatKeepsItsThreadKeepsNoOtherLaneFromBeingIssued) {
  Streams streams;
  const StepPlan plan = make_plan({{kComm, {}}, {kCompute, {}}});
  std::latch issued(1);
  FakeRunner runner([&](const Operator& op) -> Status {
    if (op.lane == kCompute) issued.count_down();
    if (op.lane == kComm) issued.wait();  // on one thread this would never end
    return {};
  });
  EXPECT_TRUE(streams.executor->run_step(plan, runner, 0, Rank(0)).ok());
}

TEST(StreamLanes, ErrorWhileIssuingLeavesEveryLaneIdle) {
  Streams streams;
  const StepPlan plan = make_plan({{kCompute, {}}, {kComm, {0}}, {kCompute, {1}}});
  FakeRunner runner([](const Operator& op) -> Status {
    if (op.id == OpId(1)) return Error{ErrorKind::RunFailed, "", "refused"};
    return {};
  });
  const auto spans = streams.executor->run_step(plan, runner, 0, Rank(0));
  ASSERT_FALSE(spans.ok());
  EXPECT_EQ(spans.error().message, "refused");
  EXPECT_EQ(runner.ended, (std::vector<int>{0, 1}));
  EXPECT_EQ(runner.abandoned.size(), 1U);
  EXPECT_EQ(streams.backend.log(kCompute).back(), "synchronize");
  EXPECT_EQ(streams.backend.log(kComm).back(), "synchronize");
}

TEST(StreamLanes, DeviceErrorIsReportedAfterTheStep) {
  Streams streams;
  streams.backend.device_status = Error{ErrorKind::RunFailed, "", "illegal address"};
  FakeRunner runner = streams.runner();
  const auto spans = streams.executor->run_step(make_plan({{kCompute, {}}}), runner, 0, Rank(2));
  ASSERT_FALSE(spans.ok());
  EXPECT_EQ(spans.error().text(), "rank 2: illegal address");
  EXPECT_EQ(runner.abandoned.size(), 1U);
}

}  // namespace
}  // namespace moecast
