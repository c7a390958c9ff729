#include "models/checkpoint/buffers.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast {
namespace {

std::int64_t count(const SnapshotBuffers& agent, BufferState state) {
  return std::count_if(agent.buffers().begin(), agent.buffers().end(),
                       [state](const auto& buffer) { return buffer.state == state; });
}

TEST(SnapshotBuffers, RotateFromSnapshotToPersistToRecovery) {
  SnapshotBuffers agent;
  EXPECT_FALSE(agent.recovery().has_value());
  const std::size_t first = agent.begin_snapshot(10);
  EXPECT_FALSE(agent.next_persist().has_value());  // not complete
  EXPECT_TRUE(agent.complete().empty());
  agent.complete_snapshot();
  EXPECT_EQ(agent.begin_persist(), first);
  const std::size_t second = agent.begin_snapshot(20);
  EXPECT_NE(second, first);
  agent.complete_snapshot();
  EXPECT_FALSE(agent.next_persist().has_value());  // waits in place
  agent.complete_persist();
  EXPECT_EQ(agent.recovery(), first);
  EXPECT_EQ(agent.begin_persist(), second);
  EXPECT_EQ(agent.recovery(), first);  // kept until the next persist ends
  agent.complete_persist();
  EXPECT_EQ(agent.recovery(), second);
  EXPECT_EQ(agent.buffers()[first].state, BufferState::Free);
}

TEST(SnapshotBuffers, ANewerSnapshotReplacesTheWaitingOne) {
  SnapshotBuffers agent;
  agent.begin_snapshot(10);
  agent.complete_snapshot();
  agent.begin_persist();
  agent.complete_persist();
  agent.begin_snapshot(20);
  agent.complete_snapshot();
  agent.begin_persist();
  const std::size_t waiting = agent.begin_snapshot(30);
  agent.complete_snapshot();
  EXPECT_EQ(agent.begin_snapshot(40), waiting);  // the other two persist and serve recovery
  agent.complete_snapshot();
  EXPECT_EQ(agent.buffers()[waiting].step, 40);
  std::vector<std::int64_t> steps;
  for (const std::size_t buffer : agent.complete()) steps.push_back(agent.buffers()[buffer].step);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{40, 20, 10}));
}

TEST(SnapshotBuffers, AFailedPersistIsTriedAgainUnlessANewerSnapshotWaits) {
  SnapshotBuffers agent;
  const std::size_t first = agent.begin_snapshot(10);
  agent.complete_snapshot();
  agent.begin_persist();
  agent.fail_persist();
  EXPECT_EQ(agent.next_persist(), first);
  agent.begin_persist();
  const std::size_t second = agent.begin_snapshot(20);
  agent.complete_snapshot();
  agent.fail_persist();
  EXPECT_EQ(agent.next_persist(), second);
  EXPECT_EQ(agent.buffers()[first].state, BufferState::Free);
}

TEST(SnapshotBuffers, RollingBackForgetsWhatIsNewer) {
  SnapshotBuffers agent;
  agent.begin_snapshot(10);
  agent.complete_snapshot();
  agent.begin_persist();
  agent.complete_persist();
  agent.begin_snapshot(20);
  agent.complete_snapshot();
  agent.begin_persist();
  agent.begin_snapshot(30);
  agent.roll_back(10);
  EXPECT_EQ(agent.complete().size(), 1U);
  EXPECT_TRUE(agent.recovery().has_value());
  EXPECT_EQ(count(agent, BufferState::Free), 2);
  agent.begin_snapshot(20);  // the same step once more
}

TEST(SnapshotBuffers, InAnyOrderOfEventsTheRulesHold) {
  const CounterRandom random(3, 0);
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    SnapshotBuffers agent;
    std::int64_t step = 0;
    std::optional<std::int64_t> durable;
    for (std::uint64_t event = 0; event < 100; ++event) {
      const std::int64_t kind = random.below(6, trial, event);
      if (kind == 0 && agent.next_snapshot()) agent.begin_snapshot(++step);
      if (kind == 1 && count(agent, BufferState::Filling) == 1) agent.complete_snapshot();
      if (kind == 2 && count(agent, BufferState::Filling) == 1) agent.abort_snapshot();
      if (kind == 3 && agent.next_persist()) {
        EXPECT_EQ(count(agent, BufferState::Persisting), 0);  // never while another persists
        EXPECT_EQ(agent.buffers()[*agent.next_persist()].state, BufferState::Waiting);
        agent.begin_persist();
      }
      if (kind >= 4 && count(agent, BufferState::Persisting) == 1) {
        if (kind == 4) {
          for (const auto& buffer : agent.buffers()) {
            if (buffer.state == BufferState::Persisting) durable = buffer.step;
          }
          agent.complete_persist();
        } else {
          agent.fail_persist();
        }
      }
      for (const BufferState state :
           {BufferState::Filling, BufferState::Waiting, BufferState::Persisting, BufferState::Recovery}) {
        EXPECT_LE(count(agent, state), 1);
      }
      // The recovery buffer is what storage has, whole.
      EXPECT_EQ(agent.recovery().has_value(), durable.has_value());
      if (durable) {
        EXPECT_EQ(agent.buffers()[*agent.recovery()].step, *durable);
      }
      // Training never waits for a buffer unless it fills one already.
      EXPECT_TRUE(agent.next_snapshot().has_value() || count(agent, BufferState::Filling) == 1);
    }
  }
}

}  // namespace
}  // namespace moecast
