#include "models/parallel_layout.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace moecast {
namespace {

std::vector<Rank> ranks(const std::vector<std::int32_t>& values) {
  std::vector<Rank> out;
  for (const std::int32_t value : values) out.push_back(Rank(value));
  return out;
}

constexpr Group kGroups[] = {Group::World,      Group::Tensor,   Group::Expert, Group::Data,
                             Group::ExpertData, Group::Pipeline, Group::Context};

TEST(ParallelLayout, RankOrderIsTensorThenContextThenDataThenPipeline) {
  ParallelLayout layout{4, 2, 2, 2, 0};
  layout.context = 2;
  ASSERT_EQ(layout.world_size(), 32);
  // rank 5 = tensor 1, context 0, data 1, pipeline 0
  EXPECT_EQ(layout.members(Group::Tensor, Rank(5)), ranks({4, 5}));
  EXPECT_EQ(layout.members(Group::Context, Rank(5)), ranks({5, 7}));
  EXPECT_EQ(layout.members(Group::Data, Rank(5)), ranks({1, 3, 5, 7, 9, 11, 13, 15}));
  EXPECT_EQ(layout.members(Group::Pipeline, Rank(5)), ranks({5, 21}));
  EXPECT_EQ(layout.position(Group::Data, Rank(5)), 2);
  EXPECT_EQ(layout.stage_of(Rank(21)), 1);
}

TEST(ParallelLayout, ExpertGroupsAreNeighboursWhateverTheirTensorCoordinate) {
  const ParallelLayout layout{2, 4, 2, 2, 0};  // Megatron with expert_tensor_parallel_size 1: 4 ranks of a stage, EP 4
  EXPECT_EQ(layout.members(Group::Expert, Rank(6)), ranks({4, 5, 6, 7}));
  EXPECT_EQ(layout.position(Group::Expert, Rank(6)), 2);
  EXPECT_EQ(layout.members(Group::ExpertData, Rank(6)), ranks({6}));
  const ParallelLayout narrow{2, 2, 2, 2, 0};
  EXPECT_EQ(narrow.members(Group::Expert, Rank(6)), ranks({6, 7}));
  EXPECT_EQ(narrow.members(Group::ExpertData, Rank(6)), ranks({4, 6}));
}

TEST(ParallelLayout, GroupsPartitionTheRanks) {
  for (const ParallelLayout& layout :
       {ParallelLayout{1, 1, 1, 1, 0}, {6, 3, 1, 1, 0}, {4, 4, 2, 1, 0}, {4, 2, 3, 2, 0}, {2, 1, 1, 3, 0}}) {
    for (const Group group : kGroups) {
      for (std::int32_t r = 0; r < layout.world_size(); ++r) {
        const std::vector<Rank> members = layout.members(group, Rank(r));
        ASSERT_EQ(static_cast<std::int64_t>(members.size()), layout.group_size(group));
        EXPECT_TRUE(std::is_sorted(members.begin(), members.end()));
        EXPECT_EQ(members[static_cast<std::size_t>(layout.position(group, Rank(r)))], Rank(r));
        for (const Rank member : members) EXPECT_EQ(layout.members(group, member), members);
      }
    }
  }
}

TEST(ParallelLayout, CheckSaysWhatWouldFit) {
  EXPECT_TRUE((ParallelLayout{4, 2, 1, 1, 3}.check().ok()));
  const Status status = ParallelLayout{6, 4, 0, 1, 4}.check();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::BadInput);
  EXPECT_EQ(status.error().message, "tensor degree is 0: expected 1 or more; zero_stage is 4: expected 0, 1, 2 or 3");
  EXPECT_EQ(
      (ParallelLayout{6, 4, 1, 1, 0}).check().error().message,
      "data degree 6 is not divisible by expert degree 4: expert degrees 1, 2, 3, 6 fit data 6, data degrees 4, 8 "
      "fit expert 4");
  EXPECT_EQ(
      (ParallelLayout{3, 4, 2, 1, 0}).check().error().message,
      "data x context x tensor degree 6 is not divisible by expert degree 4: expert degrees 1, 2, 3, 6 fit data x "
      "context x tensor 6, data degrees 2, 4 fit expert 4");
  EXPECT_NE((ParallelLayout{2, 8, 1, 1, 0}).check().error().message.find("data degrees 8 fit expert 8"),
            std::string::npos);
}

TEST(ParallelLayout, OptionsNeedTheirDegree) {
  ParallelLayout layout;
  layout.sequence_parallel = true;
  layout.virtual_stages = 2;
  layout.pipeline_schedule = PipelineSchedule::ZeroBubble;
  const Status status = layout.check();
  ASSERT_FALSE(status.ok());
  for (const char* part : {"sequence_parallel divides tokens", "expected 1 without an interleaved", "needs stages"}) {
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
  }
  layout.tensor = 2;
  layout.pipeline = 2;
  layout.pipeline_schedule = PipelineSchedule::Interleaved;
  EXPECT_TRUE(layout.check().ok()) << layout.check().error().message;
}

}  // namespace
}  // namespace moecast
