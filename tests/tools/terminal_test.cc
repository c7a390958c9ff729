#include "tools/terminal.h"

#include <gtest/gtest.h>

#include <map>

#include "tools/progress.h"
#include "tools/table.h"

namespace moecast {
namespace {

EnvironmentLookup environment(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) {
    const auto found = values.find(name);
    return found == values.end() ? std::string() : found->second;
  };
}

TEST(Colour, FollowsTheOptionThenNoColorThenForceThenTheTerminal) {
  EXPECT_TRUE(wants_colour("always", environment({{"NO_COLOR", "1"}}), false));
  EXPECT_FALSE(wants_colour("never", environment({{"FORCE_COLOR", "1"}}), true));
  EXPECT_FALSE(wants_colour("auto", environment({{"NO_COLOR", "1"}, {"CLICOLOR_FORCE", "1"}}), true));
  EXPECT_TRUE(wants_colour("auto", environment({{"NO_COLOR", ""}}), true));
  EXPECT_TRUE(wants_colour("auto", environment({{"CLICOLOR_FORCE", "1"}}), false));
  EXPECT_FALSE(wants_colour("auto", environment({{"FORCE_COLOR", "0"}}), false));
  EXPECT_FALSE(wants_colour("auto", environment({{"TERM", "dumb"}}), true));
  EXPECT_TRUE(wants_colour("auto", environment({{"TERM", "xterm"}}), true));
}

TEST(Colour, IsLeftOutWhenNotWanted) {
  EXPECT_EQ(Style(false).paint("x", Tone::Bad), "x");
  EXPECT_EQ(Style(true).paint("x", Tone::Bad), "\033[31mx\033[0m");
  EXPECT_EQ(Style(true).paint("x", Tone::Plain), "x");
}

TEST(DisplayWidth, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width("abc"), 3U);
  EXPECT_EQ(display_width("µs"), 2U);
  EXPECT_EQ(display_width("e\xCC\x81"), 1U);  // e and a combining accent
  EXPECT_EQ(display_width("模型"), 4U);
  EXPECT_EQ(display_width(""), 0U);
}

TEST(TableText, LinesUpByDisplayWidth) {
  Table table({{"name"}, {"time", Align::Right}, {"note"}});
  table.row({"a", "12 µs", "short"});
  table.row({"longer", "1 ms", ""});
  EXPECT_EQ(table.text(Style(false)),
            "name     time  note\n"
            "a       12 µs  short\n"
            "longer   1 ms\n");
}

TEST(TableText, ColourDoesNotMoveColumns) {
  Table table({{""}, {""}});
  table.row({Cell("yes", Tone::Good), "x"});
  table.row({"no", "y"});
  EXPECT_EQ(table.text(Style(true)), "\033[32myes\033[0m  x\nno   y\n");
}

TEST(Progress, SaysNothingUnlessEnabledAndCleansUp) {
  const ManualClock clock;
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  { ProgressLine(std::string("a"), false, clock, file).update(1, 2); }
  EXPECT_EQ(std::ftell(file), 0);
  { ProgressLine(std::string("train"), true, clock, file).update(1, 4, "loss 2.1"); }
  std::rewind(file);
  char text[256] = {};
  const std::size_t size = std::fread(text, 1, sizeof text, file);
  EXPECT_EQ(std::string(text, size), "\r\033[2Ktrain  1/4  25 %  loss 2.1  0 s left\r\033[2K");
  std::fclose(file);
}

TEST(Progress, IsDrawnAtMostTenTimesASecond) {
  ManualClock clock;
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    ProgressLine line("x", true, clock, file);
    line.update(1, 100);
    const long first = std::ftell(file);
    clock.advance(std::chrono::milliseconds(50));
    line.update(2, 100);
    EXPECT_EQ(std::ftell(file), first);
    clock.advance(std::chrono::milliseconds(60));
    line.update(3, 100);
    EXPECT_GT(std::ftell(file), first);
  }
  std::fclose(file);
}

TEST(Progress, RemainingTimeIsForPeople) {
  EXPECT_EQ(remaining_text(std::chrono::seconds(4)), "4 s");
  EXPECT_EQ(remaining_text(std::chrono::seconds(125)), "2 min 5 s");
  EXPECT_EQ(remaining_text(std::chrono::seconds(12000)), "3 h 20 min");
}

}  // namespace
}  // namespace moecast
