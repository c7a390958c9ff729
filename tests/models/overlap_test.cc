#include "models/overlap.h"

#include <gtest/gtest.h>

namespace moecast {
namespace {

/// Operators one after another, each as long as it is told.
class Spans {
 public:
  Spans& add(OpKind kind, Phase phase, std::int64_t ns) {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(timeline_.plan.operators.size()));
    op.kind = kind;
    op.phase = phase;
    op.layer = LayerId(1);
    const bool exchange = kind == OpKind::Dispatch || kind == OpKind::Combine;
    op.lane = exchange ? Lane::Comm : Lane::Compute;
    timeline_.plan.operators.push_back(op);
    const Instant end = now_ + Duration(ns);
    timeline_.spans.push_back({op.id, Rank(0), op.lane, 0, now_, end});
    now_ = end;
    return *this;
  }
  [[nodiscard]] OverlapWindows windows() const { return overlap_windows(timeline_); }

 private:
  Timeline timeline_;
  Instant now_{};
};

TEST(Overlap, TheWindowIsWhatStandsBetweenEncodeAndDecode) {
  const OverlapWindows windows = Spans()
                                     .add(OpKind::Attention, Phase::Forward, 1)
                                     .add(OpKind::Gate, Phase::Forward, 2)
                                     .add(OpKind::Encode, Phase::Forward, 4)
                                     .add(OpKind::Dispatch, Phase::Forward, 8)
                                     .add(OpKind::Mlp, Phase::Forward, 16)
                                     .add(OpKind::Expert, Phase::Forward, 32)
                                     .add(OpKind::Combine, Phase::Forward, 64)
                                     .add(OpKind::Attention, Phase::Forward, 128)
                                     .add(OpKind::Decode, Phase::Forward, 256)
                                     .add(OpKind::Head, Phase::Forward, 512)
                                     .add(OpKind::Decode, Phase::Backward, 1)
                                     .add(OpKind::Combine, Phase::Backward, 2)
                                     .add(OpKind::Attention, Phase::Backward, 4)
                                     .add(OpKind::Expert, Phase::Backward, 8)
                                     .add(OpKind::Dispatch, Phase::Backward, 16)
                                     .add(OpKind::Encode, Phase::Backward, 32)
                                     .add(OpKind::Gate, Phase::Backward, 64)
                                     .windows();
  EXPECT_EQ(windows.forward.block_count, 1);
  EXPECT_EQ(windows.forward.window, Duration(16 + 128));
  EXPECT_EQ(windows.forward.experts, Duration(32));
  EXPECT_EQ(windows.forward.exchanges, Duration(8 + 64));
  EXPECT_EQ(windows.backward.window, Duration(4));
  EXPECT_EQ(windows.backward.experts, Duration(8));
  EXPECT_EQ(windows.backward.exchanges, Duration(2 + 16));
}

TEST(Overlap, WithoutAShortcutThereIsNoWindow) {
  const OverlapWindows windows = Spans()
                                     .add(OpKind::Attention, Phase::Forward, 1)
                                     .add(OpKind::Gate, Phase::Forward, 2)
                                     .add(OpKind::Encode, Phase::Forward, 4)
                                     .add(OpKind::Dispatch, Phase::Forward, 8)
                                     .add(OpKind::Expert, Phase::Forward, 32)
                                     .add(OpKind::Combine, Phase::Forward, 64)
                                     .add(OpKind::Decode, Phase::Forward, 256)
                                     .windows();
  EXPECT_EQ(windows.forward.window, Duration(0));
  EXPECT_EQ(windows.backward.block_count, 0);
}

}  // namespace
}  // namespace moecast
