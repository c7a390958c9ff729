#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "models/checkpoint/plt.h"
#include "sim/campaign/campaign.h"
#include "sim/campaign/closed_forms.h"
#include "sim/campaign/failure_stream.h"
#include "sim/campaign/interval_search.h"
#include "tests/sim/campaign_testing.h"

namespace moecast {
namespace {

/// The closed form lies inside the Monte Carlo's 99 % interval, and the interval is narrow enough to mean something.
void expect_inside(const MeanInterval& found, double expected, double widest) {
  EXPECT_LE(std::fabs(found.mean - expected), found.half_width)
      << found.mean << " +- " << found.half_width << ", closed form " << expected;
  EXPECT_LE(found.half_width, widest * expected);
}

double hours(const CampaignOutcome& outcome) { return seconds(outcome.wall) / 3600; }

// Golden values of the closed forms ---------------------------------------------------------------------------------

TEST(ClosedForms, PublishedPointsOfDaly) {
  // J. Daly (2006): T_s = 500 h, R = 10 min, C = 5 min; paper 117, 57, 9.1 min for M = 24 h, 6 h, 15 min.
  EXPECT_NEAR(daly_interval(1440, 5), 116.69, 0.01);
  EXPECT_NEAR(daly_interval(360, 5), 56.71, 0.01);
  EXPECT_NEAR(daly_interval(15, 5), 9.14, 0.01);
  EXPECT_NEAR(best_interval(1440, 5), 116.69, 0.01);
  EXPECT_NEAR(best_interval(360, 5), 56.71, 0.01);
  EXPECT_NEAR(best_interval(15, 5), 9.17, 0.01);
  EXPECT_NEAR(completion_time(1440, 116.69, 5, 10, 30'000), 32'872.9, 0.5);
  EXPECT_NEAR(completion_time(360, 56.71, 5, 10, 30'000), 36'613.0, 0.5);
  EXPECT_NEAR(completion_time(15, 9.14, 5, 10, 30'000), 150'249.9, 0.5);
  EXPECT_GT(first_order_waste(15, 9.14, 5, 10), 1);
}

TEST(ClosedForms, BestIntervalIsTheLeastOfTheExactTime) {
  for (const double mtbf : {15.0, 360.0, 1440.0}) {
    const double best = best_interval(mtbf, 5);
    const double least = segment_time(mtbf, best, 5, 10) / best;
    EXPECT_LT(least, segment_time(mtbf, best * 1.01, 5, 10) / (best * 1.01));
    EXPECT_LT(least, segment_time(mtbf, best * 0.99, 5, 10) / (best * 0.99));
  }
  EXPECT_NEAR(young_interval(1440, 5), 120, 1e-9);
  EXPECT_NEAR(lambert_w0(-0.2) * std::exp(lambert_w0(-0.2)), -0.2, 1e-15);
}

TEST(ClosedForms, PublishedPointsOfOthers) {
  EXPECT_NEAR(asynchronous_age(10, 4), 9, 1e-12);
  EXPECT_NEAR(copies_survive_bound(16, 2, 2), 0.9333, 1e-4);
  EXPECT_NEAR(copies_survive_bound(1024, 2, 2), 0.99902, 1e-5);
  EXPECT_NEAR(copies_survive(16, 2, 2), 0.9333, 1e-4);
  EXPECT_NEAR(copies_survive(16, 2, 3), 0.80, 1e-9);
  EXPECT_NEAR(copies_survive(16, 2, 4), 0.6154, 1e-4);
  EXPECT_NEAR(copies_survive_bound(16, 2, 4), 0.60, 1e-9);
  EXPECT_NEAR(job_mtbf(16'384 / 8, 6.50 / 1000 / 24), 1.803, 1e-3);
  EXPECT_NEAR(job_mtbf(131'072 / 8, 6.50 / 1000 / 24), 0.225, 1e-3);
  EXPECT_NEAR(gemini_waste(42, 42, 42), 105, 1e-12);
  EXPECT_NEAR(failed_attempt_time(1e6, 10), 5, 1e-4);
  EXPECT_NEAR(efficiency_with_safe_restart(100, 10, 1, 5),
              renewal_efficiency(TimeDistribution::exponential(100), 10, 1, 5), 1e-12);
  const CheckpointLevelCost one{1.0 / 1440, 5, 10};
  EXPECT_NEAR(multilevel_waste({&one, 1}), first_order_waste(1440, 120, 5, 10), 1e-12);
}

// The simulation against them ---------------------------------------------------------------------------------------

CampaignScenario blocking_campaign(double mtbf, std::int64_t interval, double write, double restart) {
  CampaignScenario scenario = plain_campaign();
  scenario.reliability.modes = {crash_mode(mtbf)};
  scenario.reliability.recovery.process_start = TimeDistribution::constant(restart);
  scenario.costs = costs_of(0, write, 0);
  scenario.policy = checkpoint_policy(CheckpointKind::BlockingFull, interval);
  scenario.replicas = 2000;
  return scenario;
}

TEST(CampaignValidation, CompletionTimeUnderExponentialFailures) {
  // Times in minutes: M = 360, C = 5, R = 10, D = 4, 56 min of work a segment.
  CampaignScenario scenario = blocking_campaign(360 * 60, 56, 5 * 60, 10 * 60);
  scenario.training.step = seconds_of(60);
  scenario.training.steps = 56 * 100;
  scenario.reliability.recovery.detection = TimeDistribution::constant(4 * 60);
  const auto outcomes = run_replicas(scenario, 2);
  expect_inside(mean_of(outcomes, hours), completion_time(360, 56, 5, 10, 5600, 4) / 60, 0.01);
}

TEST(CampaignValidation, CompletionTimeWhenMostTimeIsLost) {
  CampaignScenario scenario = blocking_campaign(15 * 60, 9, 5 * 60, 10 * 60);
  scenario.training.step = seconds_of(60);
  scenario.training.steps = 9 * 100;
  expect_inside(mean_of(run_replicas(scenario, 2), hours), completion_time(15, 9, 5, 10, 900) / 60, 0.02);
}

TEST(CampaignValidation, BestIntervalOfBlockingCheckpoints) {
  CampaignScenario scenario = blocking_campaign(360 * 60, 1, 5 * 60, 10 * 60);
  scenario.training.step = seconds_of(30);
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(400.0 * 360 * 60);
  scenario.replicas = 60;
  const IntervalSearch search = find_best_interval(scenario, 10, 2000, 2);
  ASSERT_TRUE(search.exact.has_value());
  EXPECT_NEAR(*search.exact * 0.5, best_interval(360, 5), 0.01);
  EXPECT_NEAR(*search.young * 0.5, 60, 0.01);
  // The optimum is flat: the found interval is near, and its goodput within the noise of the best possible.
  EXPECT_NEAR(static_cast<double>(search.best.interval) / *search.exact, 1, 0.15);
  const double best = efficiency(360, best_interval(360, 5), 5, 10);
  EXPECT_LE(std::fabs(search.best.goodput.mean - best), search.best.goodput.half_width);
}

TEST(CampaignValidation, AgeOfAsynchronousCheckpoints) {
  CampaignScenario scenario = blocking_campaign(5000, 10, 0, 0);
  scenario.costs = costs_of(0.5, 3.5, 0);  // usable 4 s after it began, every 10 s
  scenario.training.forward_backward = seconds_of(0.6);
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(2e6);
  scenario.policy = checkpoint_policy(CheckpointKind::AsynchronousFull, 10);
  scenario.replicas = 200;
  const auto age = [](const CampaignOutcome& o) { return seconds(o.lost_age) / static_cast<double>(o.interruptions); };
  expect_inside(mean_of(run_replicas(scenario, 2), age), asynchronous_age(10, 4), 0.01);
}

TEST(CampaignValidation, UsefulShareOfAsynchronousCheckpointsWithAStall) {
  CampaignScenario scenario = blocking_campaign(50'000, 100, 0, 30);
  scenario.costs = costs_of(8, 52, 0);
  scenario.training.forward_backward = seconds_of(0.5);  // stall 7.5 s
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(2e7);
  scenario.policy = checkpoint_policy(CheckpointKind::AsynchronousFull, 100);
  scenario.replicas = 200;
  const auto outcomes = run_replicas(scenario, 2);
  // First order in the loss over M: good to (loss / M)^2 = 8e-6.
  const double expected = asynchronous_efficiency(50'000, 100, 7.5, 60, 30);
  const MeanInterval found = mean_of(outcomes, [](const CampaignOutcome& o) { return o.goodput(); });
  EXPECT_LE(std::fabs(found.mean - expected), found.half_width + 1e-5) << found.mean << " against " << expected;
}

TEST(CampaignValidation, RenewalFailures) {
  for (const TimeDistribution& law :
       {TimeDistribution::weibull(1, 0.7), TimeDistribution::weibull(1, 0.8), TimeDistribution::lognormal(1, 1.2),
        TimeDistribution::exponential(1), TimeDistribution::empirical({0.2, 0.5, 2.3})}) {
    CampaignScenario scenario = blocking_campaign(1000, 100, 10, 50);
    scenario.reliability.modes[0].gap_law = law;
    scenario.clock = FailureClock::Fresh;
    scenario.training.steps = 0;
    scenario.training.horizon = seconds_of(2e6);
    scenario.replicas = 100;
    const auto outcomes = run_replicas(scenario, 2);
    // Only what was saved is useful in the formula: steps that were done twice were useful once here too, and the last
    // gap is cut by the horizon (2000 gaps: below 1e-3 of the time).
    const double expected = renewal_efficiency(law.scaled(1000), 100, 10, 50);
    const MeanInterval found = mean_of(outcomes, [](const CampaignOutcome& o) { return o.goodput(); });
    EXPECT_LE(std::fabs(found.mean - expected), found.half_width + 1e-3 * expected)
        << law.text() << ": " << found.mean << " +- " << found.half_width << " against " << expected;
  }
}

TEST(CampaignValidation, LossOfTwoLevels) {
  // Memory every 10 s usable after 2 s, storage every 100 s usable 32 s after it began; a node, and with it memory, is
  // lost in 30 % of failures.
  CampaignScenario scenario = blocking_campaign(20'000, 10, 0, 0);
  scenario.reliability.modes = {crash_mode(20'000, 0.3)};
  scenario.costs = costs_of(0, 30, 0);
  scenario.costs.load_rate = BytesPerSecond(1e6 / 70);
  scenario.costs.memory_load_rate = BytesPerSecond(1e6 / 5);
  scenario.costs.peer_rate = BytesPerSecond(1e6 / 2);
  scenario.cluster.gpus = 16;
  scenario.policy = PeerReplicaSettings{10, 2, 10, 1};
  // Both nodes of the only group go together.
  scenario.reliability.modes[0].reach = FailureUnit::Cluster;
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(5e6);
  scenario.replicas = 400;
  const auto outcomes = run_replicas(scenario, 2);
  const auto loss = [](const CampaignOutcome& o) {
    return seconds(o.lost_age + o.of(TimeCause::Load)) / static_cast<double>(o.interruptions);
  };
  const double expected = two_level_loss(0.7, {5, 10, 2}, {70, 100, 32});
  const MeanInterval found = mean_of(outcomes, loss);
  EXPECT_LE(std::fabs(found.mean - expected), found.half_width) << found.mean << " against " << expected;
  EXPECT_LE(found.half_width, 0.02 * expected);
}

TEST(CampaignValidation, SurvivalOfCopiesInMemory) {
  // Two to five nodes of 16 fail at once: the first and companions, which may fall on the same node.
  CampaignScenario scenario = blocking_campaign(1000, 10, 0, 0);
  scenario.cluster.gpus = 128;
  scenario.reliability.modes = {crash_mode(1000, 1)};
  scenario.reliability.modes[0].per = FailureUnit::Node;
  scenario.reliability.modes[0].mean_between = 16'000;
  scenario.reliability.modes[0].companion = 0.5;
  scenario.policy = PeerReplicaSettings{1, 2, 0, 1};
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(2e5);
  scenario.replicas = 300;
  // Distribution of the number of different nodes.
  const int most = static_cast<int>(Failure::kMostCompanions);
  std::vector<double> different(static_cast<std::size_t>(most) + 2, 0.0);
  for (int companions = 0; companions <= most; ++companions) {
    const double probability = std::pow(0.5, companions) * (companions < most ? 0.5 : 1);
    std::vector<double> count(static_cast<std::size_t>(most) + 2, 0.0);
    count[1] = 1;
    for (int i = 0; i < companions; ++i) {
      for (std::size_t k = count.size() - 1; k >= 1; --k) {
        count[k] =
            count[k] * static_cast<double>(k) / 16 + (k > 1 ? count[k - 1] * (17 - static_cast<double>(k)) / 16 : 0);
      }
    }
    for (std::size_t k = 0; k < count.size(); ++k) different[k] += probability * count[k];
  }
  double expected = 0;
  for (std::size_t k = 1; k < different.size(); ++k) {
    expected += different[k] * copies_survive(16, 2, static_cast<std::int64_t>(k));
  }
  const auto peers = [](const CampaignOutcome& o) {
    return static_cast<double>(o.restores[static_cast<std::size_t>(RestoreSource::Peers)]) /
           static_cast<double>(o.interruptions);
  };
  expect_inside(mean_of(run_replicas(scenario, 2), peers), expected, 0.01);
}

TEST(CampaignValidation, RecomputationOfSparseWindows) {
  CampaignScenario scenario = blocking_campaign(20'000, 10, 0, 0);
  scenario.policy = SparseWindowSettings{20, 1, {}, 1, 1, 0};
  scenario.training.steps = 0;
  scenario.training.horizon = seconds_of(2e6);
  scenario.replicas = 400;
  const auto recomputed = [](const CampaignOutcome& o) {
    return seconds(o.of(TimeCause::Recomputation)) / static_cast<double>(o.interruptions);
  };
  expect_inside(mean_of(run_replicas(scenario, 2), recomputed), sparse_recomputation(20, 1), 0.01);
}

}  // namespace
}  // namespace moecast
