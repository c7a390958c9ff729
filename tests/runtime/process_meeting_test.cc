#include "runtime/trainer/process_meeting.h"

#include <gtest/gtest.h>

namespace moecast {
namespace {

Contribution sample() {
  StepOutcome outcome;
  outcome.loss_sum = 1.5;
  outcome.token_count = 12;
  outcome.balance_loss = 2.25;
  outcome.gradient_norm = 0.125;
  outcome.routed = {{}, {1, 2, 3}};
  outcome.processed = {{}, {1, 2, 2}};
  outcome.dropped = {0, 4};
  outcome.spans = {
      {OpId(3), Rank(1), Lane::Comm, 7, Instant(std::chrono::nanoseconds(5)), Instant(std::chrono::nanoseconds(9))}};
  CheckpointOutcome ended;
  ended.kind = CheckpointOutcome::Kind::Failed;
  ended.version = 3;
  ended.step = 20;
  ended.written = Bytes(77);
  ended.stall = Duration(5);
  ended.committed = Instant(Duration(99));
  ended.error = Error{ErrorKind::RunFailed, "disk", "full"};
  outcome.checkpoints = {ended};
  outcome.restored.emplace();
  outcome.restored->version = 2;
  outcome.restored->state.step = 15;
  outcome.restored->state.extra = {{"selection", "{}"}, {"faults", "[]"}};
  outcome.restored->units = {{4, 10, 123, CheckpointLevel::Memory}};
  outcome.restored->from_storage = Bytes(8);
  outcome.restored->damages = {"a: b"};
  return {true, Instant(std::chrono::nanoseconds(42)), Error{ErrorKind::Interrupted, "place", "why"}, outcome};
}

TEST(Contribution, ComesBackAsItWas) {
  const std::optional<Contribution> back = contribution_of(to_bytes(sample()));
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(back->stop);
  EXPECT_EQ(back->failed_at, sample().failed_at);
  ASSERT_TRUE(back->failure.has_value());
  EXPECT_EQ(back->failure->kind, ErrorKind::Interrupted);
  EXPECT_EQ(back->failure->text(), sample().failure->text());
  ASSERT_TRUE(back->outcome.has_value());
  EXPECT_EQ(back->outcome->loss_sum, 1.5);
  EXPECT_EQ(back->outcome->token_count, 12);
  EXPECT_EQ(back->outcome->balance_loss, 2.25);
  EXPECT_EQ(back->outcome->gradient_norm, 0.125);
  EXPECT_EQ(back->outcome->routed, sample().outcome->routed);
  EXPECT_EQ(back->outcome->processed, sample().outcome->processed);
  EXPECT_EQ(back->outcome->dropped, sample().outcome->dropped);
  ASSERT_EQ(back->outcome->spans.size(), 1U);
  EXPECT_EQ(back->outcome->spans[0].end, Instant(std::chrono::nanoseconds(9)));
  ASSERT_EQ(back->outcome->checkpoints.size(), 1U);
  const CheckpointOutcome& ended = back->outcome->checkpoints[0];
  EXPECT_EQ(ended.kind, CheckpointOutcome::Kind::Failed);
  EXPECT_EQ(ended.step, 20);
  EXPECT_EQ(ended.written, Bytes(77));
  EXPECT_EQ(ended.stall, Duration(5));
  EXPECT_EQ(ended.committed, Instant(Duration(99)));
  EXPECT_EQ(ended.error->text(), "disk: full");
  ASSERT_TRUE(back->outcome->restored.has_value());
  const RestoredRank& restored = *back->outcome->restored;
  EXPECT_EQ(restored.state.step, 15);
  EXPECT_EQ(restored.state.extra, sample().outcome->restored->state.extra);
  ASSERT_EQ(restored.units.size(), 1U);
  EXPECT_EQ(restored.units[0].tokens, 123);
  EXPECT_EQ(restored.units[0].level, CheckpointLevel::Memory);
  EXPECT_EQ(restored.damages, std::vector<std::string>{"a: b"});
  EXPECT_FALSE(contribution_of(to_bytes({}))->outcome.has_value());
}

TEST(Contribution, OtherBytesAreNone) {
  const std::vector<std::byte> bytes = to_bytes(sample());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(contribution_of(std::span(bytes).first(length)).has_value()) << length;
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back({});
  EXPECT_FALSE(contribution_of(longer).has_value());
}

}  // namespace
}  // namespace moecast
