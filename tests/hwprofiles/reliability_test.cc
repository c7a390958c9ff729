#include "hwprofiles/reliability.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "base/statistics.h"

namespace moecast {
namespace {

TEST(TimeDistribution, MeansAndTailsAreTheLaws) {
  const CounterRandom random(1, 2);
  const TimeDistribution laws[] = {TimeDistribution::exponential(3), TimeDistribution::weibull(3, 0.7),
                                   TimeDistribution::weibull(3, 2), TimeDistribution::lognormal(3, 1.2),
                                   TimeDistribution::empirical({1, 2, 6})};
  std::uint64_t entity = 0;
  for (const TimeDistribution& law : laws) {
    std::vector<double> values, above;
    for (std::uint64_t i = 0; i < 200'000; ++i) {
      values.push_back(law.at_hazard(random.exponential(entity, i)));
      above.push_back(values.back() > 2.5 ? 1 : 0);
    }
    ++entity;
    EXPECT_NEAR(law.mean, 3, 1e-12) << law.text();
    EXPECT_LE(std::fabs(mean_interval(values, 0.999).mean - 3), mean_interval(values, 0.999).half_width) << law.text();
    EXPECT_LE(std::fabs(mean_interval(above, 0.999).mean - law.survival(2.5)), mean_interval(above, 0.999).half_width)
        << law.text();
  }
  EXPECT_EQ(TimeDistribution::constant(3).at_hazard(0.2), 3);
  EXPECT_NEAR(TimeDistribution::lognormal_median(2, 1.2).survival(2), 0.5, 1e-12);
}

TEST(TimeDistribution, SurvivalIsTheHazardBackwards) {
  for (const TimeDistribution& law :
       {TimeDistribution::exponential(5), TimeDistribution::weibull(5, 0.7), TimeDistribution::lognormal(5, 1.2)}) {
    for (const double hazard : {1e-6, 0.01, 0.5, 1.0, 4.0}) {
      EXPECT_NEAR(law.survival(law.at_hazard(hazard)), std::exp(-hazard), 1e-9) << law.text();
    }
    EXPECT_NEAR(law.scaled(2).at_hazard(0.7), 2 * law.at_hazard(0.7), 1e-12);
  }
}

TEST(Reliability, BuiltInProfilesLoadAndSayTheirRates) {
  EXPECT_EQ(built_in_reliability_profiles(),
            (std::vector<std::string>{"greyhound_fail_slow", "lanl_weibull", "llama3_h100", "rsc1_a100", "rsc2_a100"}));
  for (const std::string& name : built_in_reliability_profiles()) {
    const Result<ReliabilityProfile> profile = find_reliability(name, ".");
    ASSERT_TRUE(profile.ok()) << profile.error().text();
    EXPECT_EQ(profile->name, name);
    EXPECT_NE(describe(*profile, 16'384, 8, 2).find("all together"), std::string::npos);
  }
}

TEST(Reliability, LlamaHasItsCountsBack) {
  const Result<ReliabilityProfile> profile = find_reliability("llama3_h100", ".");
  ASSERT_TRUE(profile.ok()) << profile.error().text();
  const double days = 54;
  const double per_second = profile->rate(16'384, 2048, 1024);
  EXPECT_NEAR(per_second * days * 86400, 466, 1e-6);
  EXPECT_NEAR(1 / per_second / 3600, 2.78, 0.005);
  double gpu = 0;
  for (const FailureMode& mode : profile->modes) {
    if (mode.per == FailureUnit::Gpu) gpu += 16'384 / mode.mean_between * days * 86400;
  }
  EXPECT_NEAR(gpu, 268, 1e-6);
}

TEST(Reliability, MetaHasItsMeanTimeToFailure) {
  const Result<ReliabilityProfile> profile = find_reliability("rsc1_a100", ".");
  ASSERT_TRUE(profile.ok());
  EXPECT_NEAR(1 / profile->rate(16'384, 2048, 512) / 3600, 1.803, 1e-3);
}

TEST(Reliability, ReadsBackWhatItWrites) {
  for (const std::string& name : built_in_reliability_profiles()) {
    const Result<ReliabilityProfile> profile = find_reliability(name, ".");
    ASSERT_TRUE(profile.ok());
    const Result<JsonDocument> document = JsonDocument::parse(to_json(*profile).dump(), "again.json");
    ASSERT_TRUE(document.ok());
    JsonReader reader(*document);
    const ReliabilityProfile again = read_reliability(reader);
    ASSERT_TRUE(reader.finish().ok());
    ASSERT_EQ(again.modes.size(), profile->modes.size());
    for (std::size_t i = 0; i < again.modes.size(); ++i) {
      EXPECT_NEAR(again.modes[i].mean_between / profile->modes[i].mean_between, 1, 1e-12);
      EXPECT_EQ(again.modes[i].reach, profile->modes[i].reach);
      EXPECT_EQ(again.modes[i].replaced, profile->modes[i].replaced);
    }
  }
}

}  // namespace
}  // namespace moecast
