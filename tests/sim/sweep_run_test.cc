#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <set>

#include "base/file.h"
#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_json.h"
#include "sim/sweep/sweep_search.h"
#include "tests/sim/sweep_testing.h"

namespace moecast {
namespace {

using namespace testing_sweep;
namespace fs = std::filesystem;

SweepRows run_all(const SweepSpec& spec, unsigned threads, SweepJournal* journal = nullptr,
                  const SweepHooks& hooks = {}) {
  const std::vector<SweepPoint> points = points_of(spec);
  SweepThreads workers(spec, points, threads);
  Result<SweepRows> rows = run_sweep(spec, points, workers, journal, hooks);
  EXPECT_TRUE(rows.ok()) << (rows.ok() ? "" : rows.error().text());
  return std::move(rows).value();
}

SweepJournal opened(const fs::path& path, const SweepSpec& spec) {
  Result<SweepJournal> journal =
      SweepJournal::open(path, sweep_hash(spec, points_of(spec), "test"), sweep_metrics(spec.kind).size());
  EXPECT_TRUE(journal.ok()) << (journal.ok() ? "" : journal.error().text());
  return std::move(journal).value();
}

TEST(Sweep, GivesTheSameBitsForAnyNumberOfThreads) {
  const SweepSpec spec = small_sweep();
  const std::string one = text_of(run_all(spec, 1));
  EXPECT_EQ(one, text_of(run_all(spec, 3)));
  EXPECT_EQ(one, text_of(run_all(spec, 64)));  // replicas are shared out too
}

TEST(Sweep, ARowIsWhatItsResolvedScenarioSimulatesTo) {
  for (const bool common : {true, false}) {
    SweepSpec spec = small_sweep();
    spec.common_failures = common;
    const SweepRows rows = run_all(spec, 2);
    const std::vector<SweepPoint> points = points_of(spec);
    const Result<SweepScenario> scenario = point_scenario(spec, points[7], 7);
    ASSERT_TRUE(scenario.ok());
    const Result<JsonDocument> document = JsonDocument::parse(to_json(*scenario).dump(), "resolved");
    const Result<CampaignFile> again = read_campaign(*document);
    ASSERT_TRUE(again.ok());
    const CampaignSummary summary = summarize(again->scenario, run_replicas(again->scenario, 1));
    EXPECT_DOUBLE_EQ(rows.find({7, 2})->values[0], summary.goodput.mean);
  }
}

TEST(Sweep, AStepIsSimulatedOnceForAllPointsThatShareIt) {
  const std::string base = R"({"name": "b", "campaign": {
      "workload": {"model": ")" MOECAST_SOURCE_DIR R"(/models/zoo/gpt_125m_8e.json",
                   "parallel": {"data": 8, "expert": 8, "zero_stage": 2},
                   "batch": {"micro_batch": 8, "sequence": 1024}, "precision": "bf16"},
      "hardware": "a100_nvlink_8", "training": {"steps": 1000},
      "checkpoint": {"snapshot_rate": "2 GB/s", "persist_rate": "1 GB/s"},
      "reliability": "llama3_h100", "policy": {"kind": "pec", "interval": 32, "experts": 2}}})";
  Result<JsonDocument> document = JsonDocument::parse(R"({"name": "s", "base": )" + base + R"(,
      "axes": [{"pointer": "/campaign/policy/interval", "values": [10, 20, 50]},
               {"pointer": "/campaign/policy/experts", "values": [1, 2]},
               {"pointer": "/campaign/workload/batch/micro_batch", "values": [4, 8]}],
      "replicas": 1, "objective": {"metric": "goodput", "goal": "max"}})",
                                                      "sweep.json");
  const Result<SweepSpec> spec = read_sweep(std::move(document).value());
  ASSERT_TRUE(spec.ok()) << error_of(spec);
  EXPECT_EQ(run_all(*spec, 3).size(), 12U);
  EXPECT_EQ(spec->shared->step_count(), 2U);  // one for each batch
  EXPECT_EQ(spec->shared->size_count(), 4U);  // for each batch and K
}

TEST(Sweep, FailuresAreCommonOrEachPointsOwn) {
  SweepSpec spec = small_sweep();
  const std::size_t failures = *find_sweep_metric(SweepKind::Campaign, "failures");
  const auto distinct = [&] {
    std::set<double> seen;
    const SweepRows rows = run_all(spec, 2);
    for (const SweepRow* row : rows.newest()) seen.insert(row->values[failures]);
    return seen.size();
  };
  const std::size_t common = distinct();
  spec.common_failures = false;
  EXPECT_LT(common, distinct());
}

TEST(Sweep, PointsThatAreNoScenarioAreErrorsOrRows) {
  const char* const text = R"("axes": [{"pointer": "/campaign/policy/persist_experts", "values": [4, 99]}],
                              "replicas": 2, "invalid": "skip", "objective": {"metric": "goodput", "goal": "max"})";
  SweepSpec spec = good_sweep(text);
  const SweepRows rows = run_all(spec, 1);
  EXPECT_TRUE(rows.find({0, 2})->valid());
  EXPECT_NE(rows.find({1, 2})->problem.find("/campaign/policy/persist_experts"), std::string::npos);
  EXPECT_EQ(best_row(spec, rows.newest())->request.point, 0);
  spec.skip_invalid = false;
  EXPECT_FALSE(check_points(spec, points_of(spec), 1).ok());
}

TEST(Sweep, TheBestPointMeetsTheConstraints) {
  SweepSpec spec = small_sweep();
  const SweepRows rows = run_all(spec, 2);
  const SweepRow* free_best = best_row(spec, rows.newest());
  const std::size_t plt = *find_sweep_metric(SweepKind::Campaign, "plt");
  ASSERT_GT(free_best->values[plt], 0);
  spec.constraints = {{plt, true, free_best->values[plt] / 2}};
  const SweepRow* best = best_row(spec, rows.newest());
  ASSERT_NE(best, nullptr);
  EXPECT_LE(best->values[plt], free_best->values[plt] / 2);
  EXPECT_EQ(best_row(spec, rows.newest(), 0), free_best);
  EXPECT_FALSE(feasible(spec, *free_best));
  EXPECT_TRUE(better(spec, *best, *free_best));
}

// Searches -----------------------------------------------------------------------------------------------------------

/// Follows the search with made-up results.
template <typename Value>
SweepRows follow(const SweepSpec& spec, Value value) {
  const std::vector<SweepPoint> points = points_of(spec);
  SweepRows rows;
  for (int round = 0; round < 1000; ++round) {
    const std::vector<SweepRequest> requests = next_requests(spec, points, rows);
    if (requests.empty()) return rows;
    for (const SweepRequest& request : requests) {
      EXPECT_EQ(rows.find(request), nullptr) << "asked twice";
      SweepRow row{request, std::vector<double>(sweep_metrics(spec.kind).size()), {}};
      row.values[0] = value(points[static_cast<std::size_t>(request.point)], request);
      rows.add(row);
    }
  }
  ADD_FAILURE() << "the search does not end";
  return rows;
}

SweepSpec search_sweep(const std::string& search, int values = 100) {
  return good_sweep(R"("axes": [{"pointer": "/campaign/policy/interval", "range": {"from": 1, "to": )" +
                    std::to_string(values) + R"(, "step": 1}},
                        {"pointer": "/campaign/cluster/gpus", "values": [64, 128, 256], "name": "gpus"}],
                       "replicas": 27, "objective": {"metric": "goodput", "goal": "max"}, "search": )" +
                    search);
}

TEST(SweepSearch, GoldenSectionFindsTheTopOfEveryLineWithFewPoints) {
  for (const double top : {0.0, 1.0, 37.0, 98.0, 99.0}) {
    const SweepSpec spec = search_sweep(R"({"kind": "golden_section", "axis": "interval"})");
    const SweepRows rows = follow(spec, [&](const SweepPoint& point, const SweepRequest&) {
      return -std::abs(*point[0] - top - *point[1] * 0.01);
    });
    EXPECT_LT(rows.size(), 3U * 18);
    for (std::uint32_t line = 0; line < 3; ++line) {
      bool found = false;
      for (const SweepRow* row : rows.newest())
        found |= row->request.point == static_cast<std::int64_t>(top) * 3 + line;
      EXPECT_TRUE(found) << top << " on line " << line;
    }
  }
}

TEST(SweepSearch, CoordinateDescentEndsAtAPointThatNoAxisImproves) {
  const SweepSpec spec = search_sweep(R"({"kind": "coordinate_descent"})", 30);
  const SweepRows rows = follow(spec, [](const SweepPoint& point, const SweepRequest&) {
    return -std::abs(*point[0] - 7.0) - 3.0 * std::abs(*point[1] - 2.0);
  });
  EXPECT_EQ(best_row(spec, rows.newest())->request.point, 7 * 3 + 2);
  EXPECT_LT(rows.size(), 90U);
}

TEST(SweepSearch, SuccessiveHalvingGivesReplicasToTheBest) {
  const SweepSpec spec = search_sweep(R"({"kind": "successive_halving", "first_replicas": 1, "factor": 3})", 27);
  const SweepRows rows = follow(
      spec, [](const SweepPoint& point, const SweepRequest&) { return -std::abs(*point[0] - 13.0) + *point[1]; });
  std::map<std::int64_t, int> by_replicas;
  for (const SweepRow* row : rows.newest()) ++by_replicas[row->request.replicas];
  EXPECT_EQ(by_replicas, (std::map<std::int64_t, int>{{1, 54}, {3, 18}, {9, 6}, {27, 3}}));
  EXPECT_EQ(best_row(spec, rows.newest())->request.point, 13 * 3 + 2);
}

// Journal ------------------------------------------------------------------------------------------------------------

TEST(SweepJournal, KeepsEveryRowToTheLastBit) {
  const Folder folder;
  const SweepSpec spec = small_sweep();
  std::string first;
  {
    SweepJournal journal = opened(folder.path() / "journal", spec);
    first = text_of(run_all(spec, 2, &journal));
  }
  SweepJournal journal = opened(folder.path() / "journal", spec);
  SweepRows rows;
  for (SweepRow& row : journal.take_recovered()) rows.add(std::move(row));
  EXPECT_EQ(text_of(rows), first);
}

TEST(SweepJournal, GoesOnFromEveryTornTail) {
  const Folder folder;
  const fs::path path = folder.path() / "journal";
  const SweepSpec spec = small_sweep();
  std::string whole, expected;
  {
    SweepJournal journal = opened(path, spec);
    expected = text_of(run_all(spec, 1, &journal));
    whole = *read_file(path);
  }
  for (std::size_t cut = 0; cut < whole.size(); cut += 61) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, cut);
    std::size_t recovered = 0;
    {
      SweepJournal journal = opened(path, spec);
      recovered = journal.take_recovered().size();
    }
    const auto lines = std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut), '\n');
    EXPECT_EQ(recovered, static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, lines - 1))) << "cut at " << cut;
  }
  std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, whole.size() / 2);
  SweepJournal journal = opened(path, spec);
  EXPECT_EQ(text_of(run_all(spec, 2, &journal)), expected);
}

TEST(SweepJournal, ATurnedBitCostsOneRowAndNoMore) {
  const Folder folder;
  const fs::path path = folder.path() / "journal";
  const SweepSpec spec = small_sweep();
  {
    SweepJournal journal = opened(path, spec);
    static_cast<void>(run_all(spec, 1, &journal));
  }
  std::string text = *read_file(path);
  text[text.find("row 5 ") + 10] ^= 1;
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  SweepJournal journal = opened(path, spec);
  EXPECT_EQ(journal.take_recovered().size(), 11U);
  EXPECT_EQ(journal.damaged_count(), 1U);
}

TEST(SweepJournal, RefusesWhatIsNotItsOwn) {
  const Folder folder;
  const SweepSpec spec = small_sweep();
  const fs::path path = folder.path() / "journal";
  const auto error = [&](std::uint64_t hash) {
    const Result<SweepJournal> journal = SweepJournal::open(path, hash, sweep_metrics(spec.kind).size());
    return journal.ok() ? std::string("ok") : journal.error().text();
  };
  {
    const SweepJournal held = opened(path, spec);
    EXPECT_NE(error(sweep_hash(spec, points_of(spec), "test")).find("another moecast is at work"), std::string::npos);
  }
  EXPECT_NE(error(1).find("is the journal of another sweep"), std::string::npos);
  std::ofstream(path, std::ios::trunc) << "my diary\n";
  EXPECT_NE(error(sweep_hash(spec, points_of(spec), "test")).find("not the journal of a sweep"), std::string::npos);
  std::ofstream(path, std::ios::trunc) << "my diary";
  EXPECT_NE(error(sweep_hash(spec, points_of(spec), "test")).find("not the journal of this sweep"), std::string::npos);
  EXPECT_EQ(*read_file(path), "my diary");
}

/// Files cannot grow beyond this while the object lives: a write ends early, then fails, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_{};
  void (*signal_)(int);
};

TEST(SweepJournal, AWriteThatDoesNotFitLeavesItGood) {
  const Folder folder;
  const SweepSpec spec = small_sweep();
  const fs::path path = folder.path() / "journal";
  std::int64_t written = 0;
  {
    SweepJournal journal = opened(path, spec);
    const FileSizeLimit limit(10'000);
    SweepRow row{{0, 2}, std::vector<double>(sweep_metrics(spec.kind).size(), 1.0 / 3), {}};
    Status status;
    while (status.ok() && written < 10'000) {
      row.request.point = written;
      status = journal.append(row);
      written += status.ok() ? 1 : 0;
    }
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::RunFailed);
    EXPECT_NE(status.error().text().find("cannot be written"), std::string::npos);
  }
  SweepJournal journal = opened(path, spec);
  EXPECT_EQ(journal.take_recovered().size(), static_cast<std::size_t>(written));
  EXPECT_EQ(journal.damaged_count(), 0U);
}

TEST(Sweep, APointStopsBetweenItsReplicas) {
  const SweepSpec spec = small_sweep();
  int asked = 0;
  const Result<SweepRow> row = evaluate_point(spec, points_of(spec), {7, 1000}, 1, [&] { return ++asked > 3; });
  ASSERT_FALSE(row.ok());
  EXPECT_EQ(row.error().kind, ErrorKind::Interrupted);
  EXPECT_EQ(asked, 4);
}

TEST(Sweep, StopsWhenToldAndGoesOnLater) {
  const Folder folder;
  const SweepSpec spec = small_sweep();
  const std::string expected = text_of(run_all(spec, 1));
  const std::vector<SweepPoint> points = points_of(spec);
  {
    SweepJournal journal = opened(folder.path() / "journal", spec);
    SweepThreads workers(spec, points, 1);
    std::int64_t done = 0;
    SweepHooks hooks;
    hooks.progress = [&](const SweepProgress& progress) { done = progress.done; };
    hooks.stop = [&] { return done >= 5; };
    const Result<SweepRows> rows = run_sweep(spec, points, workers, &journal, hooks);
    ASSERT_FALSE(rows.ok());
    EXPECT_EQ(rows.error().kind, ErrorKind::Interrupted);
  }
  SweepJournal journal = opened(folder.path() / "journal", spec);
  std::int64_t first = -1;
  SweepHooks hooks;
  hooks.progress = [&](const SweepProgress& progress) { first = first < 0 ? progress.done : first; };
  EXPECT_EQ(text_of(run_all(spec, 1, &journal, hooks)), expected);
  EXPECT_EQ(first, 5);
}

}  // namespace
}  // namespace moecast
