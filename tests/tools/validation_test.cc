#include "tools/validation.h"

#include <gtest/gtest.h>

#include "tests/tools/run_testing.h"

namespace moecast {
namespace {

ValidatedPair pair(const std::string& name, std::int64_t measured, std::int64_t predicted, std::int64_t spread = 0) {
  ValidatedPair out{name, {}};
  out.comparison.measured.step_time = Duration(measured);
  out.comparison.measured_quartiles = {Duration(measured - spread), Duration(measured + spread)};
  out.comparison.predicted.step_time = Duration(predicted);
  out.comparison.step_time_error = static_cast<double>(predicted - measured) / static_cast<double>(measured);
  return out;
}

TEST(Verdict, TakesTheMedianOfTheErrorsWhateverTheirSign) {
  const Verdict verdict = judge({pair("a", 100, 90), pair("b", 200, 204), pair("c", 300, 330)}, 0.1);
  EXPECT_DOUBLE_EQ(verdict.median_error, 0.1);
  EXPECT_TRUE(verdict.order_right());
  EXPECT_TRUE(verdict.pass());
  EXPECT_FALSE(judge({pair("a", 100, 90)}, 0.09).pass());
}

TEST(Verdict, AWrongOrderFailsHoweverSmallTheError) {
  const Verdict verdict = judge({pair("a", 100, 101), pair("b", 101, 100)}, 0.5);
  EXPECT_FALSE(verdict.order_right());
  EXPECT_FALSE(verdict.pass());
  EXPECT_EQ(verdict.measured_order, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(verdict.predicted_order, (std::vector<std::string>{"b", "a"}));
}

TEST(Verdict, OnlyWhatTheMeasurementTellsApartCanBeInTheWrongOrder) {
  const Verdict near = judge({pair("a", 100, 104, 2), pair("b", 104, 100, 2), pair("c", 109, 110, 2)}, 0.1);
  EXPECT_EQ(near.told_apart, 2);  // a b touch at 102
  EXPECT_TRUE(near.order_right());
  const Verdict wrong = judge({pair("a", 100, 104, 2), pair("b", 104, 100, 2), pair("c", 109, 102, 2)}, 0.1);
  EXPECT_EQ(wrong.swapped, (std::vector<std::pair<std::string, std::string>>{{"a", "c"}}));
  EXPECT_FALSE(wrong.pass());
}

TEST(SameWorkload, SaysWhatDiffers) {
  const Workload workload = testing_runs::small_workload();
  EXPECT_TRUE(check_same_workload(workload, workload).ok());
  Workload other = workload;
  other.schedule.forward_slot = 3;  // a matter of time, not of work
  EXPECT_TRUE(check_same_workload(workload, other).ok());
  other.batch.sequence = 8;
  ASSERT_FALSE(check_same_workload(workload, other).ok());
  EXPECT_NE(check_same_workload(workload, other).error().message.find("batches"), std::string::npos);
  EXPECT_FALSE(check_same_workload(workload, testing_runs::small_workload(ScheduleKind::Sequential)).ok());
}

}  // namespace
}  // namespace moecast
