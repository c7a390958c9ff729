#include "hwprofiles/cluster.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "hwprofiles/topology.h"
#include "tests/hwprofiles/sample_cluster_testing.h"
#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;
using testing::pcie_cluster;
using testing::rail_cluster;

std::vector<std::string> names(const Topology& topology, std::int64_t a, std::int64_t b) {
  std::vector<std::string> result;
  for (const std::int32_t resource : topology.path(a, b)) result.push_back(topology.name(resource));
  return result;
}

using Names = std::vector<std::string>;

TEST(Topology, FirstPartThatJoinsCarries) {
  const Topology topology(rail_cluster(8));
  EXPECT_EQ(names(topology, 3, 3), Names{});
  EXPECT_EQ(names(topology, 1, 6), (Names{"uplink of gpu 1 at nvswitch", "downlink of gpu 6 at nvswitch"}));
  EXPECT_EQ(names(topology, 1, 25), (Names{"uplink of gpu 1 at leaf", "downlink of gpu 25 at leaf"}));
  EXPECT_EQ(names(topology, 1, 33),  // the same rail, but of the other four nodes
            (Names{"uplink of leaf 1 at spine", "downlink of leaf 9 at spine", "uplink of gpu 1 at leaf",
                   "downlink of gpu 33 at leaf"}));
  EXPECT_EQ(names(topology, 1, 10),  // the next node, another rail
            (Names{"uplink of leaf 1 at spine", "downlink of leaf 2 at spine", "uplink of gpu 1 at leaf",
                   "downlink of gpu 10 at leaf"}));
}

TEST(Topology, UplinksAreShared) {
  const Topology topology(pcie_cluster(2));
  EXPECT_EQ(names(topology, 0, 9), (Names{"uplink of host 0 at fabric", "downlink of host 1 at fabric",
                                          "uplink of pcie_switch 0 at host", "downlink of pcie_switch 2 at host",
                                          "uplink of gpu 0 at pcie_switch", "downlink of gpu 9 at pcie_switch"}));
  EXPECT_EQ(topology.path(0, 9)[0], topology.path(7, 15)[0]);
  EXPECT_EQ(topology.capacities()[static_cast<std::size_t>(topology.path(0, 9)[0])], 5e9);
}

TEST(Topology, EveryPairHasAPathOfItsOwnEndsAndBackAgain) {
  for (const Cluster& cluster : {rail_cluster(6), pcie_cluster(3)}) {
    const Topology topology(cluster);
    for (std::int64_t a = 0; a < topology.gpu_count(); ++a) {
      for (std::int64_t b = 0; b < topology.gpu_count(); ++b) {
        if (a == b) continue;
        std::vector<std::int32_t> there = topology.path(a, b);
        EXPECT_EQ(there.size(), topology.path(b, a).size());
        for (const std::int32_t resource : there) {
          ASSERT_GE(resource, 0);
          ASSERT_LT(static_cast<std::size_t>(resource), topology.capacities().size());
        }
        std::sort(there.begin(), there.end());
        EXPECT_TRUE(std::adjacent_find(there.begin(), there.end()) == there.end());
      }
    }
  }
}

TEST(Topology, InnerCapacityIsCrossedOnce) {
  Cluster cluster = pcie_cluster(1);
  cluster.parts[0].capacity = BytesPerSecond(30e9);
  cluster.parts[1].capacity = BytesPerSecond(25e9);
  const Topology topology(cluster);
  EXPECT_EQ(names(topology, 0, 1),
            (Names{"uplink of gpu 0 at pcie_switch", "downlink of gpu 1 at pcie_switch", "pcie_switch 0"}));
  EXPECT_EQ(names(topology, 0, 5).size(), 7U);  // both switches and the host
}

std::vector<std::string> problems(const std::function<void(Cluster&)>& edit) {
  Cluster cluster = rail_cluster(8);
  edit(cluster);
  std::vector<std::string> out;
  for (const ClusterProblem& problem : problems_of(cluster)) {
    out.push_back(fmt::format("{}{}/{} {}", problem.part, problem.link, problem.key, problem.code));
  }
  return out;
}

TEST(Cluster, AllProblemsAtOnce) {
  EXPECT_EQ(problems([](Cluster&) {}), Names{});
  EXPECT_EQ(problems([](Cluster& c) {
              c.parts[0].link = "nvlnk";
              c.parts[1].joins = "host";
              c.parts[2].joins = "nothing";
              c.parts[3].nodes = 3;
              c.parts[3].gpus = 8;
            }),
            (Names{"nvswitch/link missing-link", "pcie_switch/joins cycle", "host/joins unconnected",
                   "leaf/gpus conflict", "nvlink/ unused"}));
}

TEST(Cluster, SizesMustDivide) {
  EXPECT_EQ(problems([](Cluster& c) { c.parts[1].gpus = 3; }).front(), "pcie_switch/gpus out-of-range");
  EXPECT_EQ(problems([](Cluster& c) { c.parts[1].gpus = 12; }).front(), "pcie_switch/gpus out-of-range");
  EXPECT_EQ(problems([](Cluster& c) { c.parts[4].nodes = 2; }), Names{"spine/nodes out-of-range"});
}

TEST(Cluster, EveryGpuIsJoined) {
  EXPECT_EQ(problems([](Cluster& c) { c.parts.pop_back(); }), Names{"/parts unconnected"});
  EXPECT_EQ(problems([](Cluster& c) { c.parts.back().storage = true; }), Names{"/parts unconnected"});
}

Result<HardwareProfile> read_text(const std::string& text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "p.json");
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  HardwareProfile profile = read_profile(reader);
  RETURN_IF_ERROR(reader.finish());
  return profile;
}

HardwareProfile profile_with_cluster() {
  HardwareProfile profile = testing::sample_profile();
  profile.sources["/cluster"] = {SourceKind::Assumed, "made up"};
  profile.cluster = rail_cluster(16);
  profile.cluster->links.at("nvlink").efficiency = {{1e3, 0.25}, {1e9, 0.75}};
  CollectiveTable& table = profile.cluster->links.at("nvlink").measured[Collective::AllGather];
  table.ranks = {2, 8};
  table.curves = {{{{512, Duration(5000)}, {1e6, Duration(9000)}}}, {{{512, Duration(11000)}, {1e6, Duration(30000)}}}};
  return profile;
}

TEST(ClusterJson, RoundTripGivesTheSameCluster) {
  const HardwareProfile profile = profile_with_cluster();
  const Result<HardwareProfile> read = read_text(to_json_text(profile));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(*read, profile);
  EXPECT_NE(describe(*read).find("16 nodes of 8 GPUs, 128 in all"), std::string::npos);
}

TEST(ClusterJson, ProblemsNameTheirKeys) {
  Json json = to_json(profile_with_cluster());
  json["cluster"]["parts"]["leaf"]["link"] = "nicc";
  json["cluster"]["parts"]["spine"]["joins"] = "leaff";
  json["cluster"]["links"]["spare"] = json["cluster"]["links"]["nic"];
  const Result<HardwareProfile> read = read_text(json.dump());
  ASSERT_FALSE(read.ok());
  std::vector<std::string> found;
  for (const Problem& problem : read.error().problems) found.push_back(problem.pointer + " " + problem.suggestion);
  EXPECT_EQ(found, (Names{"/cluster/links/spare ", "/cluster/parts/leaf/link nic", "/cluster/parts/spine/joins leaf"}));
}

TEST(ClusterJson, EveryNumberNeedsASource) {
  Json json = to_json(profile_with_cluster());
  json["sources"].erase("/cluster");
  json["sources"]["/cluster/parts"] = {{"kind", "assumed"}, {"reference", "a guess"}};
  const Result<HardwareProfile> read = read_text(json.dump());
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().problems.front().pointer, "/cluster/nodes");
  EXPECT_EQ(read.error().problems.front().code, "missing-source");
}

TEST(CollectiveTable, InterpolatesSizesLinearlyAndGroupsByTheirLogarithm) {
  const HardwareProfile profile = profile_with_cluster();
  const CollectiveTable& table = profile.cluster->links.at("nvlink").measured.at(Collective::AllGather);
  EXPECT_EQ(table.latency(2), Duration(5000));
  EXPECT_NEAR(seconds(table.latency(4)), 8e-6, 2e-9);
  EXPECT_NEAR(seconds(table.latency(14)), 17e-6, 2e-9);  // 1 us for each further rank
  EXPECT_DOUBLE_EQ(table.seconds_of_bytes(2, 512), 0);
  EXPECT_NEAR(table.seconds_of_bytes(2, (512 + 1e6) / 2), 2e-6, 1e-12);
  EXPECT_NEAR(table.seconds_of_bytes(2, 1e6 + (1e6 - 512)), 8e-6, 1e-12);
  EXPECT_NEAR(table.seconds_of_bytes(4, 1e6), 11.5e-6, 1e-12);
}

}  // namespace
}  // namespace moecast
