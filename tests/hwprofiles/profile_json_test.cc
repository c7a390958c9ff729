#include "hwprofiles/profile_json.h"

#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;
using testing::sample_profile;

Result<HardwareProfile> read_text(const std::string& text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "p.json");
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  HardwareProfile profile = read_profile(reader);
  RETURN_IF_ERROR(reader.finish());
  return profile;
}

/// The problems' "pointer code" after `edit` has damaged the sample file.
std::vector<std::string> problems_after(const std::function<void(Json&)>& edit) {
  Json json = to_json(sample_profile());
  edit(json);
  const Result<HardwareProfile> result = read_text(json.dump());
  std::vector<std::string> out;
  if (result.ok()) return out;
  EXPECT_EQ(result.error().kind, ErrorKind::BadInput);
  for (const Problem& problem : result.error().problems) out.push_back(problem.pointer + " " + problem.code);
  return out;
}

using Found = std::vector<std::string>;

TEST(ProfileJson, RoundTripGivesTheSameProfile) {
  const HardwareProfile profile = sample_profile();
  const Result<HardwareProfile> compact = read_text(to_json(profile).dump());
  ASSERT_TRUE(compact.ok()) << compact.error().text();
  EXPECT_EQ(*compact, profile);
  const Result<HardwareProfile> laid_out = read_text(to_json_text(profile));
  ASSERT_TRUE(laid_out.ok()) << laid_out.error().text();
  EXPECT_EQ(*laid_out, profile);
}

TEST(ProfileJson, CurvePointsMayBeObjects) {
  Json json = to_json(sample_profile());
  json["device"]["memory_kernels"]["copy"]["curves"][0][0] = {{"size", "1000 B"}, {"time", "77 ns"}};
  const Result<HardwareProfile> result = read_text(json.dump());
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_EQ(*result, sample_profile());
}

TEST(ProfileJson, OptionalPartsMayBeMissing) {
  Json json = to_json(sample_profile());
  for (const char* key : {"fit", "interference", "description"}) json.erase(key);
  json["node"].erase("switch_bandwidth");
  const Result<HardwareProfile> result = read_text(json.dump());
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_FALSE(result->fit.has_value());
  EXPECT_EQ(result->interference, Interference{});
  EXPECT_FALSE(result->node.switch_bandwidth.has_value());
}

TEST(ProfileJson, NumbersNeedUnits) {
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["peak"] = 312; }), Found{"/device/peak bad-unit"});
  EXPECT_EQ(problems_after([](Json& j) { j["node"]["all_to_all"]["bandwidth"] = "300 Gb"; }),
            Found{"/node/all_to_all/bandwidth bad-unit"});
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["gemm"]["rate"][1][0][0] = 12; }),
            Found{"/device/gemm/rate bad-unit"});
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["memory_kernels"]["copy"]["curves"][0][1][0] = 5000; }),
            Found{"/device/memory_kernels/copy/curves bad-unit"});
}

TEST(ProfileJson, EveryNumberNeedsASource) {
  const Found found = problems_after([](Json& j) { j["sources"].erase("/node"); });
  EXPECT_NE(std::find(found.begin(), found.end(), "/node/ranks missing-source"), found.end());
  EXPECT_NE(std::find(found.begin(), found.end(), "/node/all_to_all/latency missing-source"), found.end());
  EXPECT_EQ(found.size(), 9U);  // ranks, two links of two numbers, one efficiency curve, switch, two of the host link
  EXPECT_EQ(problems_after([](Json& j) { j["sources"].erase("/device/gemm"); }), Found{});  // "/device" covers it
}

TEST(ProfileJson, ARootSourceCoversEverything) {
  EXPECT_EQ(problems_after([](Json& j) { j["sources"] = {{"", {{"kind", "assumed"}, {"reference", "x"}}}}; }), Found{});
}

TEST(ProfileJson, TablesMustHaveTheShapeOfTheirAxes) {
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["gemm"]["rate"][0].erase(0); }),
            Found{"/device/gemm/rate wrong-length"});
  EXPECT_EQ(problems_after([](Json& j) {
              j["device"]["gemm"]["m"] = {300, 16};
            }),
            Found{"/device/gemm/m out-of-range"});
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["attention_forward"]["curves"].erase(0); }),
            Found{"/device/attention_forward/curves wrong-length"});
  EXPECT_EQ(problems_after([](Json& j) { j["device"]["memory_kernels"]["copy"]["curves"][0][1][0] = "10 B"; }),
            (Found{"/device/memory_kernels/copy/curves out-of-range"}));
}

TEST(ProfileJson, TheLinkToTheHostHasABandwidth) {
  EXPECT_EQ(problems_after([](Json& j) { j["node"]["host_link"]["bandwidth"] = "0 GB/s"; }),
            Found{"/node/host_link/bandwidth out-of-range"});
  EXPECT_EQ(problems_after([](Json& j) { j["node"]["host_link"].erase("shared"); }),
            Found{"/node/host_link/shared missing-key"});
}

TEST(ProfileJson, UnknownNamesAreReportedWithTheNearest) {
  const Found found = problems_after([](Json& j) {
    j["device"]["memory_kernels"]["cpy"] = j["device"]["memory_kernels"]["copy"];
    j["device"]["memory_kernels"].erase("copy");
  });
  EXPECT_EQ(found, (Found{"/device/memory_kernels missing-key", "/device/memory_kernels/cpy unknown-key"}));
  EXPECT_EQ(problems_after([](Json& j) { j["node"]["rnaks"] = 2; }).front(), "/node/rnaks unknown-key");
}

TEST(ProfileJson, FilesExtendOneAnother) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "profile_json_extends";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(write_file_atomically(folder / "base.json", to_json_text(sample_profile())).ok());
  ASSERT_TRUE(
      write_file_atomically(folder / "slow.json",
                            R"({"extends": "base.json", "name": "slow", "node": {"all_to_all": {"latency": "1 ms"}}})")
          .ok());
  const Result<HardwareProfile> slow = find_profile("slow.json", folder);
  ASSERT_TRUE(slow.ok()) << slow.error().text();
  HardwareProfile expected = sample_profile();
  expected.name = "slow";
  expected.node.all_to_all.latency = std::chrono::milliseconds(1);
  EXPECT_EQ(*slow, expected);
}

TEST(ProfileJson, MissingProfileNamesTheBuiltInOnes) {
  const Result<HardwareProfile> found = find_profile("a100_nvlink_9", ".");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::BadInput);
  EXPECT_NE(found.error().message.find("did you mean a100_nvlink_8?"), std::string::npos) << found.error().message;
  EXPECT_EQ(find_profile("no/such.json", ".").error().kind, ErrorKind::BadInput);
}

TEST(BuiltInProfiles, AllReadAndDescribeThemselves) {
  const std::vector<std::string> names = built_in_profiles();
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    const Result<HardwareProfile> profile = find_profile(name, ".");
    ASSERT_TRUE(profile.ok()) << name << ": " << profile.error().text();
    EXPECT_EQ(profile->name, name);
    const std::string text = describe(*profile);
    EXPECT_NE(text.find(profile->device.name), std::string::npos);
    EXPECT_LT(text.size(), 8000U);
    const Result<HardwareProfile> again = read_text(to_json_text(*profile));
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(*again, *profile);
  }
}

/// What a built-in profile predicts stays below what its device can do.
TEST(BuiltInProfiles, StayWithinTheirOwnPeaks) {
  for (const std::string& name : built_in_profiles()) {
    const Result<HardwareProfile> profile = find_profile(name, ".");
    ASSERT_TRUE(profile.ok());
    const DeviceProfile& device = profile->device;
    for (const GemmTable* table : {&device.gemm, &device.grouped_gemm}) {
      for (const double rate : table->flops_per_second) EXPECT_LT(rate, device.peak.value()) << name;
    }
    for (const auto& [kernel, cost] : device.memory_kernels) {
      for (std::size_t i = 0; i < cost.columns.size(); ++i) {
        const CostCurve::Point& last = cost.curves[i].points.back();
        EXPECT_LE(last.size / seconds(last.time),
                  device.memory_rate.value() * (1 + 1e-6))  // times are whole nanoseconds
            << name << " " << to_text(kernel);
      }
    }
    for (const bool backward : {false, true}) {
      const AttentionWork work{4, 2048, 16, 16, 128, backward};
      EXPECT_LT(flops(work).value() / seconds(device.time(work)), device.peak.value()) << name;
    }
  }
}

}  // namespace
}  // namespace moecast
