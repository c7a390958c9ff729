#include <algorithm>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_json.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> campaign_files() {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(MOECAST_SOURCE_DIR) / "experiments" / "campaign")) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(CampaignFiles, PublishedValuesComeBack) {
  ASSERT_FALSE(campaign_files().empty());
  for (const fs::path& path : campaign_files()) {
    const Result<CampaignFile> file = load_campaign(path);
    ASSERT_TRUE(file.ok()) << file.error().text();
    if (file->expect.empty()) continue;
    const auto outcomes = run_replicas(file->scenario, 2);
    const auto judged = judge(file->scenario, file->expect, outcomes, run_compared(*file, 2).value());
    for (const JudgedExpectation& row : judged) {
      EXPECT_TRUE(row.pass) << path.filename() << ": " << row.expectation.metric << " " << row.ours << ", "
                            << allowed_text(row) << "\n"
                            << to_table(file->scenario, summarize(file->scenario, outcomes));
    }
  }
}

/// One training under every policy: what each paper claims, in its order.
TEST(CampaignFiles, PoliciesAreInTheOrderOfTheirPapers) {
  std::map<std::string, CampaignSummary> of;
  for (const fs::path& path : campaign_files()) {
    if (path.parent_path().filename() != "policies_16384") continue;
    Result<CampaignFile> file = load_campaign(path);
    ASSERT_TRUE(file.ok()) << file.error().text();
    file->scenario.replicas = 40;  // of the same failures for all policies
    of[path.stem().string()] = summarize(file->scenario, run_replicas(file->scenario, 2));
    EXPECT_TRUE(of[path.stem().string()].notes.empty()) << path;
  }
  ASSERT_EQ(of.size(), 8U);
  const auto goodput = [&](const char* policy) { return of.at(policy).goodput.mean; };
  const auto stall = [&](const char* policy) {
    return of.at(policy).share[static_cast<std::size_t>(TimeCause::Stall)].mean;
  };
  EXPECT_GT(goodput("async_full"), goodput("blocking_full") + 0.05);
  EXPECT_GT(goodput("pec"), goodput("async_full"));
  EXPECT_GT(goodput("pec_two_level"), goodput("pec"));
  EXPECT_GT(goodput("peer_replicas"), goodput("async_full"));
  EXPECT_GT(goodput("sparse_window"), goodput("async_full"));
  EXPECT_LT(stall("async_full"), 0.2 * stall("blocking_full"));
  // PEC loses tokens, within the budget that its paper calls harmless; two levels lose fewer; nobody else loses any.
  EXPECT_GT(of.at("pec").plt.mean, of.at("pec_two_level").plt.mean);
  EXPECT_LT(of.at("pec").plt.mean, 0.0375);
  for (const auto& [name, summary] : of) {
    EXPECT_EQ(summary.plt.mean > 0, name.starts_with("pec")) << name;
  }
}

TEST(CampaignFiles, ReadBackWhatTheyWrite) {
  for (const fs::path& path : campaign_files()) {
    const Result<CampaignFile> file = load_campaign(path);
    ASSERT_TRUE(file.ok()) << file.error().text();
    const std::string text = to_json(*file).dump(1);
    const Result<JsonDocument> document = JsonDocument::parse(text, "again.json");
    ASSERT_TRUE(document.ok()) << document.error().text();
    const Result<CampaignFile> again = read_campaign(*document);
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_TRUE(again->scenario.policy == file->scenario.policy) << path;
    EXPECT_TRUE(again->scenario.cluster == file->scenario.cluster) << path;
    EXPECT_TRUE(again->scenario.training == file->scenario.training) << path;
    EXPECT_TRUE(again->scenario.costs == file->scenario.costs) << path;
    EXPECT_EQ(again->scenario.reliability.modes.size(), file->scenario.reliability.modes.size());
  }
}

}  // namespace
}  // namespace moecast
