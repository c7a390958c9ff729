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

constexpr Group kGroups[] = {Group::World, Group::Tensor,     Group::Expert,
                             Group::Data,  Group::ExpertData, Group::Pipeline};

TEST(ParallelLayout, RankOrderIsTensorThenExpertThenDataThenPipeline) {
  const ParallelLayout layout{4, 2, 2, 2, 0};  // data 4 = expert 2 x 2 replicas, tensor 2, pipeline 2
  ASSERT_EQ(layout.world_size(), 16);
  // rank 5 = tensor 1, expert 0, replica 1, pipeline 0
  EXPECT_EQ(layout.members(Group::Tensor, Rank(5)), ranks({4, 5}));
  EXPECT_EQ(layout.members(Group::Expert, Rank(5)), ranks({5, 7}));
  EXPECT_EQ(layout.members(Group::Data, Rank(5)), ranks({1, 3, 5, 7}));
  EXPECT_EQ(layout.members(Group::ExpertData, Rank(5)), ranks({1, 5}));
  EXPECT_EQ(layout.members(Group::Pipeline, Rank(5)), ranks({5, 13}));
  EXPECT_EQ(layout.position(Group::Data, Rank(5)), 2);
  EXPECT_EQ(layout.position(Group::Expert, Rank(15)), 1);
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
  EXPECT_EQ(
      status.error().message,
      "tensor degree is 0: expected 1 or more; data degree 6 is not divisible by expert degree 4: expert degrees 1, 2, "
      "3, 6 fit data 6, data degrees 4, 8 fit expert 4; zero_stage is 4: expected 0, 1, 2 or 3");
  EXPECT_NE((ParallelLayout{2, 8, 1, 1, 0}).check().error().message.find("data degrees 8 fit expert 8"),
            std::string::npos);
}

}  // namespace
}  // namespace moecast
