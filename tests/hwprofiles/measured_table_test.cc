#include "hwprofiles/measured_table.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "base/file.h"
#include "hwprofiles/profile_json.h"

namespace moecast {
namespace {

CsvTable table(std::vector<std::string> columns, std::vector<std::vector<std::string>> rows) {
  return {"table.csv", std::move(columns), std::move(rows)};
}

const std::vector<std::string> kProductColumns = {"device", "m", "n", "k", "latency_ms"};
const std::vector<std::string> kExpertColumns = {"kernel",  "tokens", "hidden", "inter",        "top_k",
                                                 "experts", "moe_tp", "moe_ep", "distribution", "latency_ms"};
const std::vector<std::string> kCollectiveColumns = {"device", "nccl", "collective", "gpus", "bytes", "latency_ms"};

TEST(MeasuredTable, IsToldByItsColumns) {
  EXPECT_EQ(table_kind(table(kProductColumns, {})), TableKind::Products);
  EXPECT_EQ(table_kind(table(kExpertColumns, {})), TableKind::Experts);
  EXPECT_EQ(table_kind(table(kCollectiveColumns, {})), TableKind::Collectives);
  EXPECT_FALSE(table_kind(table({"m", "n", "k"}, {})).has_value());
}

TEST(MeasuredTable, KeepsEverySecondRowApart) {
  const auto rows = read_products(
      table(kProductColumns, {{"A", "16", "32", "64", "0.5"}, {"A", "1", "1", "1", "2"}, {"B", "1", "1", "1", "3"}}),
      {"A", ""});
  ASSERT_TRUE(rows.ok()) << rows.error().text();
  ASSERT_EQ(rows->size(), 2U);
  EXPECT_EQ((*rows)[0].sample.time, Duration(500'000));
  EXPECT_EQ(std::get<GemmWork>((*rows)[0].sample.work).n, 32);
  EXPECT_FALSE((*rows)[0].sample.held_out);
  EXPECT_TRUE((*rows)[1].sample.held_out);
}

TEST(MeasuredTable, ReportsEveryBadField) {
  const auto rows =
      read_products(table(kProductColumns, {{"A", "0", "32", "64", "x"}, {"A", "1", "1", "1", "-2"}}), {});
  ASSERT_FALSE(rows.ok());
  EXPECT_EQ(rows.error().problems.size(), 3U);
  EXPECT_FALSE(read_products(table(kProductColumns, {{"A", "1", "1", "1", "1"}}), {"B", ""}).ok());
  EXPECT_FALSE(read_collectives(table(kCollectiveColumns, {{"A", "2", "gather", "8", "512", "1"}}), {}).ok());
  EXPECT_FALSE(
      read_experts(table(kExpertColumns, {{"t", "8", "64", "64", "2", "8", "1", "3", "balanced", "1"}}), {}).ok());
}

TEST(MeasuredTable, ReadsExpertsOfOneRank) {
  const auto rows = read_experts(
      table(kExpertColumns,
            {{"moe_torch_flow_cutlass", "64", "2048", "768", "2", "16", "2", "4", "balanced", "0.1"},
             {"moe_torch_flow_nongated", "64", "2048", "768", "2", "16", "1", "4", "power_law_1.2", "0.1"}}),
      {});
  ASSERT_TRUE(rows.ok()) << rows.error().text();
  const ExpertCall& call = (*rows)[0].sample.call;
  EXPECT_EQ(call.width, 384);
  EXPECT_TRUE(call.gated);
  EXPECT_EQ(call.draws, (std::vector<ExpertRows>{{8, 8, 8, 8}}));
  EXPECT_FALSE((*rows)[1].sample.call.gated);
  EXPECT_GT((*rows)[1].sample.call.draws.size(), 1U);
}

/// Two rows of each size: sizes count, not rows, for what is kept apart.
CsvTable all_reduces() {
  std::vector<std::vector<std::string>> rows;
  const std::vector<std::pair<std::string, std::string>> times = {
      {"524288", "0.03"}, {"2097152", "0.05"}, {"8388608", "0.08"}, {"33554432", "0.2"}};
  for (const auto& [bytes, time] : times) {
    rows.push_back({"H", "2", "all_reduce", "8", bytes, time});
    rows.push_back({"H", "2", "all_reduce", "8", bytes, time});
  }
  return table(kCollectiveColumns, std::move(rows));
}

TEST(MeasuredTable, FitsCollectivesToEverySecondSize) {
  const auto rows = read_collectives(all_reduces(), {});
  ASSERT_TRUE(rows.ok());
  const auto tables = fit_collectives(*rows);
  ASSERT_EQ(tables.size(), 1U);
  const CollectiveTable& fitted = tables.at(Collective::AllReduce);
  EXPECT_EQ(fitted.ranks, (std::vector<std::int64_t>{8}));
  ASSERT_EQ(fitted.curves[0].points.size(), 2U);
  EXPECT_EQ(fitted.curves[0].points[1].size, 8388608);
}

TEST(MeasuredTable, ARefittedProfileSaysHowGoodItIs) {
  const Result<HardwareProfile> base = find_profile("h200_cluster", ".");
  ASSERT_TRUE(base.ok());
  const Result<HardwareProfile> fitted = refit(*base, all_reduces(), {});
  ASSERT_TRUE(fitted.ok()) << fitted.error().text();
  EXPECT_EQ(fitted->cluster->links.at("nvlink").measured.size(), 1U);
  ASSERT_TRUE(fitted->fit.has_value());
  EXPECT_EQ(fitted->fit->held_out_count, 4);
  EXPECT_LT(fitted->fit->fit_median_error, 1e-4);  // whole nanoseconds
  EXPECT_GT(fitted->fit->held_out_median_error, 0.01);
  EXPECT_NE(fitted->source_of("/cluster/links/nvlink/measured")->reference.find("table.csv"), std::string::npos);
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "moecast_refitted_profile.json";
  ASSERT_TRUE(write_file_atomically(file, to_json_text(*fitted)).ok());
  const Result<HardwareProfile> again = load_profile(file);
  EXPECT_TRUE(again.ok()) << again.error().text();
  std::filesystem::remove(file);
  EXPECT_FALSE(refit(*find_profile("h200_nvlink_8", "."), all_reduces(), {}).ok());
}

}  // namespace
}  // namespace moecast
