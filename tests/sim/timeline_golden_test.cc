// Exact timelines of small scenarios. A change that moves a line is a changed result: look at why, then take over the
// text that the test wrote (the message names it) and say so in CHANGELOG.md.
#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "sim/scenario.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

std::string lines_of(const Timeline& timeline) {
  std::string text = timeline.source + "\n";
  for (const Span& span : timeline.spans) {
    text += fmt::format("step {} rank {} {:<7} {:<28} {:>9} .. {:>9} ns\n", span.step, span.rank.value(),
                        to_text(span.lane), timeline.plan.operators[span.op.index()].name(),
                        span.start.time_since_epoch().count(), span.end.time_since_epoch().count());
  }
  return text;
}

class GoldenTimeline : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTimeline, IsAsItWas) {
  const fs::path folder = fs::path(MOECAST_SOURCE_DIR) / "tests/sim/golden";
  const std::string name = GetParam();
  const Result<JsonDocument> document = JsonDocument::read(folder / (name + ".json"));
  ASSERT_TRUE(document.ok()) << document.error().text();
  const Result<Scenario> scenario = read_scenario(*document);
  ASSERT_TRUE(scenario.ok()) << scenario.error().text();
  const Result<Timeline> timeline = simulate(*scenario);
  ASSERT_TRUE(timeline.ok()) << timeline.error().text();
  const std::string text = lines_of(*timeline);
  const Result<std::string> golden = read_file(folder / (name + ".txt"));
  if (golden.ok() && *golden == text) return;
  const fs::path written = fs::path(MOECAST_BINARY_DIR) / (name + ".txt");
  ASSERT_TRUE(write_file_atomically(written, text).ok());
  ASSERT_TRUE(golden.ok()) << golden.error().text() << "\nthe new text is in " << written;
  EXPECT_EQ(text, *golden) << "the new text is in " << written;
}

INSTANTIATE_TEST_SUITE_P(Small, GoldenTimeline, testing::Values("scmoe_straggler", "pipelined_groups"),
                         [](const auto& chosen) { return std::string(chosen.param); });

}  // namespace
}  // namespace moecast
