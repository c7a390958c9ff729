#include <gtest/gtest.h>

#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast {
namespace {

TEST(Describe, NamesTheMachineItsRatesItsErrorAndItsSources) {
  const std::string text = describe(testing::sample_profile());
  for (const char* part : {"sample", "thing one", "19.5 TFLOP/s", "8 ranks", "4.6 % on 31 shapes", "/device/gemm",
                           "datasheet", "a paper, table 3", "compute x 1.07"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace moecast
