#include "tools/options.h"

#include <gtest/gtest.h>

#include "tools/help.h"

namespace moecast {
namespace {

CommandSpec spec() {
  return with_common_options(
      {.name = "try",
       .summary = "for tests",
       .positionals = {{.name = "INPUT", .help = "what to read"},
                       {.name = "MORE", .help = "what else", .at_least = 0, .at_most = 2}},
       .options = {
           {.name = "output", .letter = 'o', .kind = ValueKind::Text, .value = "DIR", .help = "where to"},
           {.name = "ranks", .kind = ValueKind::Integer, .value = "N", .help = "how many", .low = 1, .high = 64},
           {.name = "latency", .kind = ValueKind::Time, .value = "TIME", .help = "of a link"},
           {.name = "bandwidth", .kind = ValueKind::Rate, .value = "RATE", .help = "of a link"},
           {.name = "set", .kind = ValueKind::Setting, .value = "POINTER=VALUE", .help = "a value"},
           {.name = "tolerance",
            .kind = ValueKind::Fraction,
            .value = "FRACTION",
            .help = "allowed",
            .fallback = "10 %"}}});
}

std::string problem(const std::vector<std::string>& words) {
  const Result<Arguments> result = parse_arguments(spec(), words);
  return result.ok() ? std::string("fine") : result.error().text();
}

TEST(Options, ReadWhatTheTableSays) {
  const Result<Arguments> result = parse_arguments(
      spec(), {"in.json", "--ranks=4", "-o", "out", "more", "--latency", "200 us", "--bandwidth", "1 GB/s", "-q"});
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_EQ(result->positionals(), (std::vector<std::string>{"in.json", "more"}));
  EXPECT_EQ(result->integer("ranks"), 4);
  EXPECT_EQ(result->text("output"), "out");
  EXPECT_EQ(result->duration("latency"), std::chrono::microseconds(200));
  EXPECT_EQ(result->bytes_per_second("bandwidth"), BytesPerSecond(1e9));
  EXPECT_DOUBLE_EQ(*result->fraction("tolerance"), 0.1);
  EXPECT_TRUE(result->flag("quiet"));
  EXPECT_FALSE(result->flag("json"));
}

TEST(Options, AnUnknownOneIsNamedWithTheNearestBesideIt) {
  EXPECT_EQ(problem({"in", "--rank", "2"}),
            "try: unknown option --rank; did you mean --ranks? (moecast try --help lists all)");
  EXPECT_NE(problem({"in", "--nothing-like-it"}).find("unknown option --nothing-like-it (moecast"), std::string::npos);
}

TEST(Options, SettingsKeepTheirOrderAndMayContainAnything) {
  const Result<Arguments> result =
      parse_arguments(spec(), {"in", "--set", "/a/b=1 GB/s", "--set=/name=x=y", "--set", "/empty="});
  ASSERT_TRUE(result.ok()) << result.error().text();
  std::vector<std::pair<std::string, std::string>> settings;
  for (const Setting& each : result->settings()) settings.emplace_back(each.pointer, each.value);
  EXPECT_EQ(settings,
            (std::vector<std::pair<std::string, std::string>>{{"/a/b", "1 GB/s"}, {"/name", "x=y"}, {"/empty", ""}}));
  for (const char* wrong : {"a=1", "/a", ""}) {
    EXPECT_NE(problem({"in", "--set", wrong}).find("expected POINTER=VALUE"), std::string::npos) << wrong;
  }
}

TEST(Options, PrefixesAreNotGuessed) { EXPECT_NE(problem({"in", "--out", "x"}), "fine"); }

TEST(Options, NumbersAreHeldAgainstTheirRange) {
  EXPECT_EQ(problem({"in", "--ranks", "-3"}), "--ranks: expected an integer in 1..64, found \"-3\"");
  EXPECT_EQ(problem({"in", "--ranks=-3"}), "--ranks: expected an integer in 1..64, found \"-3\"");
  EXPECT_NE(problem({"in", "--ranks", "65"}), "fine");
  EXPECT_NE(problem({"in", "--ranks", "2.5"}), "fine");
  EXPECT_NE(problem({"in", "--ranks", "99999999999999999999"}), "fine");
}

TEST(Options, UnitsAreChecked) {
  EXPECT_NE(problem({"in", "--latency", "200"}).find("--latency: "), std::string::npos);
  EXPECT_NE(problem({"in", "--latency", "200 ks"}), "fine");
  EXPECT_NE(problem({"in", "--bandwidth", "1 GB"}), "fine");
  EXPECT_NE(problem({"in", "--tolerance", "ten"}), "fine");
  EXPECT_NE(problem({"in", "--tolerance", "-1 %"}), "fine");
  EXPECT_EQ(problem({"in", "--color", "alwys"}),
            "--color: expected auto, always, never, found \"alwys\"; did you mean always?");
}

TEST(Options, MissingAndSuperfluousWordsAreErrors) {
  EXPECT_EQ(problem({}), "try: INPUT is missing: what to read");
  EXPECT_NE(problem({"a", "b", "c", "d"}).find("unexpected argument \"d\""), std::string::npos);
  EXPECT_EQ(problem({"a", "--ranks"}), "try: --ranks needs a value");
  EXPECT_EQ(problem({"a", "--output="}), "try: --output needs a value");
  EXPECT_EQ(problem({"a", "--json=1"}), "try: --json takes no value");
  EXPECT_EQ(problem({"a", "--ranks", "1", "--ranks", "2"}), "try: --ranks is given twice");
}

TEST(Options, WhatFollowsTwoDashesIsNoOption) {
  const Result<Arguments> result = parse_arguments(spec(), {"--", "--ranks", "-x"});
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_EQ(result->positionals(), (std::vector<std::string>{"--ranks", "-x"}));
}

TEST(Options, HelpNeedsNothingElse) {
  const Result<Arguments> result = parse_arguments(spec(), {"--help"});
  ASSERT_TRUE(result.ok()) << result.error().text();
  const std::string help = command_help(spec(), Style(false));
  for (const OptionSpec& option : spec().options) {
    EXPECT_NE(help.find("--" + option.name), std::string::npos) << option.name;
    EXPECT_NE(help.find(option.help), std::string::npos) << option.name;
  }
  EXPECT_NE(help.find("1..64"), std::string::npos);
  EXPECT_NE(help.find("[10 %]"), std::string::npos);
}

TEST(Options, FractionsAreNumbersOrPercentages) {
  EXPECT_DOUBLE_EQ(*parse_fraction("10 %"), 0.1);
  EXPECT_DOUBLE_EQ(*parse_fraction("2.5%"), 0.025);
  EXPECT_DOUBLE_EQ(*parse_fraction("0.2"), 0.2);
  for (const char* text : {"", "%", "x", "inf", "nan", "-0.1", "10 % of it"})
    EXPECT_FALSE(parse_fraction(text).ok()) << text;
}

}  // namespace
}  // namespace moecast
