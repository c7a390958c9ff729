#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.h"
#include "runtime/comm/mpi.h"
#include "sim/sweep/sweep.h"
#include "sim/sweep/sweep_row_text.h"
#include "tests/runtime/memory_transport_testing.h"
#include "tests/tools/program_testing.h"
#include "tools/sweep_processes.h"

namespace moecast {
namespace {

const char* const kSweep = R"({"name": "s", "base": {"name": "b", "campaign": {
    "cluster": {"gpus": 64}, "training": {"horizon": "1 d", "step": "5 s"}, "reliability": "llama3_h100",
    "policy": {"kind": "none"}}},
  "axes": [{"pointer": "/campaign/cluster/gpus", "range": {"from": 8, "to": 800, "step": 8}}],
  "replicas": 2, "objective": {"metric": "goodput", "goal": "max"}})";

struct Sweep {
  SweepSpec spec;
  std::vector<SweepPoint> points;
};

Sweep read(const std::string& text) {
  Result<JsonDocument> document = JsonDocument::parse(text, "sweep.json");
  Result<SweepSpec> spec = read_sweep(std::move(document).value());
  Result<std::vector<SweepPoint>> points = sweep_points(*spec);
  return {std::move(spec).value(), std::move(points).value()};
}

std::string text_of(const Result<SweepRows>& rows) {
  if (!rows.ok()) return rows.error().text();
  std::string out;
  for (const SweepRow* row : rows->newest()) out += to_text(*row) + "\n";
  return out;
}

/// The sweep on `size` ranks of a memory network; the others read `others` instead of the sweep.
std::string run_on(int size, bool rendezvous, const std::string& others = kSweep) {
  const auto ends = testing::make_memory_network(size, rendezvous);
  std::vector<std::thread> followers;
  for (int rank = 1; rank < size; ++rank) {
    followers.emplace_back([&, rank] {
      const Sweep sweep = read(others);
      const Status status =
          follow_sweep(*ends[static_cast<std::size_t>(rank)], sweep.spec, sweep.points, 2, [] { return false; });
      EXPECT_TRUE(status.ok());
    });
  }
  std::string out;
  {
    const Sweep sweep = read(kSweep);
    SweepProcesses workers(*ends[0], sweep.spec, sweep.points, 1);
    out = text_of(run_sweep(sweep.spec, sweep.points, workers, nullptr));
  }
  for (std::thread& follower : followers) follower.join();
  return out;
}

TEST(SweepProcesses, GiveTheRowsOfOneProcess) {
  const Sweep sweep = read(kSweep);
  SweepThreads workers(sweep.spec, sweep.points, 2);
  const std::string expected = text_of(run_sweep(sweep.spec, sweep.points, workers, nullptr));
  ASSERT_EQ(std::count(expected.begin(), expected.end(), '\n'), 100);
  for (const int size : {1, 2, 5}) {
    EXPECT_EQ(run_on(size, false), expected) << size;
    EXPECT_EQ(run_on(size, true), expected) << size;
  }
}

TEST(SweepProcesses, ARankWithAnotherSweepEndsIt) {
  std::string other = kSweep;
  other.replace(other.find("800"), 3, "900");
  EXPECT_NE(run_on(3, false, other).find("has read another sweep file"), std::string::npos);
}

TEST(SweepProcesses, UnderMpirunTheResultsAreTheSameBytes) {
  if (!is_mpi_built() || std::system("command -v mpirun >/dev/null 2>&1") != 0) GTEST_SKIP() << "no MPI here";
  const testing_program::TestFolder folder;
  static_cast<void>(folder.file("sweep.json", kSweep));
  const std::string run = fmt::format(
      "cd '{}' && {{ mpirun --version | grep -q 'Open MPI' && more='--oversubscribe --allow-run-as-root'; "
      "mpirun $more -n 3 '{}/tools/moecast' sweep sweep.json -o three >out 2>err </dev/null; }}",
      folder.path().string(), MOECAST_BINARY_DIR);
  ASSERT_EQ(std::system(run.c_str()), 0) << read_file(folder.path() / "err").value();
  ASSERT_EQ(testing_program::run_moecast({"sweep", "sweep.json", "-o", "one"}, folder.path()).exit_code, 0);
  for (const char* name : {"results.csv", "results.jsonl", "summary.json"}) {
    EXPECT_EQ(*read_file(folder.path() / "one" / name), *read_file(folder.path() / "three" / name)) << name;
  }
}

}  // namespace
}  // namespace moecast
