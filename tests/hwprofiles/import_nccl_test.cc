#include "hwprofiles/import_nccl.h"

#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "hwprofiles/profile_json.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

class ImportNccl : public testing::Test {
 protected:
  [[nodiscard]] static fs::path write(const std::string& name, const std::string& text) {
    const fs::path path = fs::path(testing::TempDir()) / name;
    EXPECT_TRUE(write_file_atomically(path, text).ok());
    return path;
  }
};

/// A run of eight ranks over a link of 10 us and 40 GB/s, in nccl-tests' form: one process, eight GPUs.
std::string nccl_tests(const std::string& program, double port_share) {
  std::string results;
  for (std::int64_t size = 1 << 16; size <= (1 << 28); size *= 4) {
    const double time = 10 + 1e6 * port_share * static_cast<double>(size) / 40e9;
    results += fmt::format(R"({}{{"size": {}, "count": 1, "type": "float", "redop": "none", "root": "    -1",
        "out_of_place": {{"time": {}, "alg_bw": 1.0, "bus_bw": 1.0, "nwrong": 0}}, "in_place": null}})",
                           results.empty() ? "" : ",\n", size, time);
  }
  return fmt::format(R"({{"version": 3, "start_time": "2026-11-01 10:00:00", "args": ["./build/{}", "-J", "x"],
      "env": ["HOME=/root"], "nccl_version": "22807",
      "config": {{"nthreads": 1, "ngpus": 8, "devices": [{{"rank": "0"}}]}}, "results": [{}]}})",
                     program, results);
}

TEST_F(ImportNccl, FindsTheLinkBehindTheTimes) {
  const auto direct = import_collectives(write("a2a.json", nccl_tests("alltoall_perf", 7.0 / 8)));
  ASSERT_TRUE(direct.ok()) << direct.error().text();
  const auto ring = import_collectives(write("ar.json", nccl_tests("all_reduce_perf", 14.0 / 8)));
  ASSERT_TRUE(ring.ok()) << ring.error().text();
  EXPECT_EQ(direct->samples.size(), 7U);
  EXPECT_EQ(direct->samples.front().ranks, 8);
  EXPECT_EQ(direct->origin, "nccl-tests alltoall_perf, NCCL 22807, 2026-11-01 10:00:00, 8 ranks");
  const auto base = find_profile("h200_nvlink_8", ".");
  ASSERT_TRUE(base.ok());
  const auto profile = with_collectives(*base, {*direct, *ring});
  ASSERT_TRUE(profile.ok()) << profile.error().text();
  EXPECT_NEAR(seconds(profile->node.all_to_all.latency), 10e-6, 1e-7);
  EXPECT_NEAR(profile->node.all_to_all.bandwidth.value(), 40e9, 4e8);
  EXPECT_NEAR(profile->node.all_reduce.bandwidth.value(), 40e9, 4e8);
  EXPECT_LT(profile->fit->held_out_median_error, 0.01);
  EXPECT_GT(profile->fit->held_out_count, 2);
  EXPECT_EQ(profile->device, base->device);
  // What the base said of single numbers there is gone.
  EXPECT_EQ(profile->source_of("/node/all_to_all/bandwidth")->reference, direct->origin);
  // It reads back: every number has a source.
  const auto document = JsonDocument::parse(to_json_text(*profile), "p.json");
  ASSERT_TRUE(document.ok());
  JsonReader reader(*document);
  EXPECT_EQ(read_profile(reader), *profile);
  EXPECT_TRUE(reader.finish().ok());
}

TEST_F(ImportNccl, TakesTheMedianOfInspectorsLines) {
  std::string lines;
  for (const double time : {30.0, 10.0, 20.0}) {
    lines += fmt::format(
        "{{\"header\": {{\"rank\": 0, \"n_ranks\": 4}}, \"coll_perf\": {{\"coll\": \"AllReduce\", "
        "\"coll_msg_size_bytes\": 1048576, \"coll_exec_time_us\": {}}}}}\n",
        time);
  }
  const auto imported = import_collectives(write("inspector.jsonl", lines));
  ASSERT_TRUE(imported.ok()) << imported.error().text();
  ASSERT_EQ(imported->samples.size(), 1U);
  EXPECT_EQ(imported->samples[0].time, std::chrono::microseconds(20));
  EXPECT_EQ(imported->samples[0].ranks, 4);
}

TEST_F(ImportNccl, SaysWhatAFileIsNot) {
  const auto refusal = [&](const std::string& text) {
    const auto imported = import_collectives(write("bad.json", text));
    return imported.ok() ? "fine" : imported.error().text();
  };
  EXPECT_NE(refusal("{\"results\": [").find("no complete JSON"), std::string::npos);
  EXPECT_NE(refusal("{\"a\": 1}").find("holds no results"), std::string::npos);
  EXPECT_NE(refusal(nccl_tests("gather_perf", 1)).find("\"gather_perf\" is no collective"), std::string::npos);
  EXPECT_NE(refusal(R"({"args": ["all_reduce_perf"], "results": []})").find("no collective with a size"),
            std::string::npos);
  EXPECT_NE(refusal("{\"coll_perf\": {}}\nnonsense\n").find("bad.json:2"), std::string::npos);
  EXPECT_FALSE(import_collectives("/no/such/file.json").ok());
}

TEST_F(ImportNccl, GroupsOfOneSizeOnly) {
  auto four = import_collectives(write("a2a.json", nccl_tests("alltoall_perf", 0.75)));
  ASSERT_TRUE(four.ok());
  auto eight = *four;
  for (LinkSample& sample : four->samples) sample.ranks = 4;
  const auto base = find_profile("h200_nvlink_8", ".");
  const auto profile = with_collectives(*base, {*four, eight});
  ASSERT_FALSE(profile.ok());
  EXPECT_NE(profile.error().text().find("8 ranks beside 4"), std::string::npos) << profile.error().text();
}

}  // namespace
}  // namespace moecast
