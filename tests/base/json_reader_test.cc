#include "base/json_reader.h"

#include <fstream>
#include <limits>

#include <gtest/gtest.h>

namespace moecast {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

JsonDocument document(std::string_view text) {
  Result<JsonDocument> parsed = JsonDocument::parse(text, "test.json");
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().text());
  return std::move(parsed).value();
}

std::string write_temporary(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path) << content;
  return path;
}

TEST(JsonReader, ReadsEveryKindOfValue) {
  const JsonDocument doc = document(R"({"n": 3, "x": 2.5, "on": true, "name": "a", "size": "80 GiB", "rate": "400 Gb/s",
      "t": "12 us", "list": [1, 2], "inner": {"y": 1}, "items": [{"z": 1}, {"z": 2}]})");
  JsonReader reader(doc);
  EXPECT_EQ(reader.integer("n", 1, 5), 3);
  EXPECT_EQ(reader.number("x", 0, 10), 2.5);
  EXPECT_TRUE(reader.boolean("on"));
  EXPECT_EQ(reader.text("name"), "a");
  EXPECT_EQ(reader.bytes("size"), Bytes(80LL << 30));
  EXPECT_EQ(reader.bytes_per_second("rate"), BytesPerSecond(50e9));
  EXPECT_EQ(reader.duration("t"), Duration(12000));
  EXPECT_EQ(reader.integers("list", 0, 9), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(reader.object("inner").integer("y", 0, 9), 1);
  const std::vector<JsonReader> items = reader.objects("items");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(JsonReader(items[0]).integer("z", 0, 9), 1);
  EXPECT_EQ(JsonReader(items[1]).integer("z", 0, 9), 2);
  EXPECT_EQ(reader.integer("absent", 0, 9, 7), 7);
  EXPECT_TRUE(reader.finish().ok());
}

TEST(JsonReader, ReportsEveryProblemWithPlaceAndNearestKey) {
  const JsonDocument doc =
      document("{\n  \"stepz\": 10,\n  \"batch\": {\"sequence\": -5, \"size\": 80},\n  \"mode\": \"fst\"\n}\n");
  JsonReader reader(doc);
  (void)reader.integer("steps", 1, 100);
  JsonReader batch = reader.object("batch");
  (void)batch.integer("sequence", 1, 4096);
  (void)batch.bytes("size");
  enum class Mode { Fast, Slow };
  (void)reader.choice<Mode>("mode", {{"fast", Mode::Fast}, {"slow", Mode::Slow}});
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  const std::vector<Problem>& problems = status.error().problems;
  ASSERT_EQ(problems.size(), 5U) << status.error().text();
  EXPECT_EQ(problems[0].text(), "test.json:1:1: /steps: expected the key \"steps\", found nothing");
  EXPECT_EQ(problems[1].line, 2);
  EXPECT_EQ(problems[1].column, 12);
  EXPECT_EQ(problems[1].suggestion, "steps");
  EXPECT_EQ(problems[2].pointer, "/batch/sequence");
  EXPECT_EQ(problems[2].column, 25);
  EXPECT_EQ(problems[2].found, "-5");
  EXPECT_EQ(problems[3].code, "bad-unit");
  EXPECT_NE(problems[3].expected.find("80 GiB"), std::string::npos);
  EXPECT_EQ(problems[4].suggestion, "fast");
  EXPECT_EQ(exit_code(status.error().kind), 2);
}

TEST(JsonReader, QuietConversionsOfTheLibraryAreErrors) {
  const JsonDocument doc = document(R"({"a": -1, "b": 2.7, "c": true, "d": 18446744073709551615, "e": "7", "f": 1.5})");
  JsonReader reader(doc);
  for (const char* key : {"a", "b", "c", "d", "e"}) (void)reader.integer(key, 0, 100);
  (void)reader.number("f", 2, kInfinity);
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().problems.size(), 6U) << status.error().text();
}

TEST(JsonDocument, SyntaxErrorsNameLineAndColumn) {
  for (const auto& [text, line] : std::vector<std::pair<std::string, int>>{
           {"{\n\"a\": 1,\n}", 3}, {"{\"a\": 1 // no\n}", 1}, {"{\"a\": NaN}", 1}, {"", 1}, {"{\"a\": 1} x", 1}}) {
    const Result<JsonDocument> parsed = JsonDocument::parse(text, "bad.json");
    ASSERT_FALSE(parsed.ok()) << text;
    ASSERT_EQ(parsed.error().problems.size(), 1U);
    EXPECT_EQ(parsed.error().problems[0].line, line) << text;
    EXPECT_EQ(parsed.error().problems[0].code, "syntax");
  }
}

TEST(JsonDocument, DuplicateKeysAndDepthAreErrors) {
  const Result<JsonDocument> twice = JsonDocument::parse("{\"a\": 1,\n \"a\": 2}", "t.json");
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().problems[0].code, "duplicate-key");
  EXPECT_EQ(twice.error().problems[0].line, 2);
  const Result<JsonDocument> deep = JsonDocument::parse(std::string(200000, '['), "t.json");
  ASSERT_FALSE(deep.ok());
  EXPECT_EQ(deep.error().problems[0].code, "depth");
}

TEST(JsonDocument, ExtendsMergesAndKeepsTheSupplyingPlace) {
  write_temporary("base.json", "{\"a\": {\"x\": 1,\n \"y\": 2}, \"list\": [1, 2, 3], \"gone\": 4}");
  const std::string path =
      write_temporary("top.json", "{\"extends\": \"base.json\", \"a\": {\"y\": -7}, \"list\": [9], \"gone\": null}");
  Result<JsonDocument> read = JsonDocument::read(path);
  ASSERT_TRUE(read.ok()) << read.error().text();
  JsonReader reader(*read);
  JsonReader a = reader.object("a");
  (void)a.integer("x", 5, 9);  // from base.json, line 1
  (void)a.integer("y", 0, 9);  // from top.json
  EXPECT_EQ(reader.integers("list", 0, 9), (std::vector<std::int64_t>{9}));
  EXPECT_FALSE(reader.has("gone"));
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  ASSERT_EQ(status.error().problems.size(), 2U) << status.error().text();
  EXPECT_NE(status.error().problems[0].file.find("base.json"), std::string::npos);
  EXPECT_NE(status.error().problems[1].file.find("top.json"), std::string::npos);
}

TEST(JsonDocument, CyclicExtendsShowsTheChain) {
  write_temporary("ring_a.json", "{\"extends\": \"ring_b.json\"}");
  const std::string path = write_temporary("ring_b.json", "{\"extends\": \"ring_a.json\"}");
  const Result<JsonDocument> read = JsonDocument::read(path);
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().text().find("ring_b.json -> ring_a.json -> ring_b.json"), std::string::npos)
      << read.error().text();
}

TEST(JsonDocument, SetOverridesAndUnreadPointersAreUnknownKeys) {
  JsonDocument doc = document(R"({"batch": {"sequence": 128}, "list": [1, 2]})");
  EXPECT_TRUE(doc.set("/batch/sequence", "256").ok());
  EXPECT_TRUE(doc.set("/list/1", "7").ok());
  EXPECT_TRUE(doc.set("/batch/sequnce", "1").ok());
  EXPECT_FALSE(doc.set("/list/9", "7").ok());
  EXPECT_FALSE(doc.set("batch", "7").ok());
  JsonReader reader(doc);
  EXPECT_EQ(reader.object("batch").integer("sequence", 1, 4096), 256);
  EXPECT_EQ(reader.integers("list", 0, 9), (std::vector<std::int64_t>{1, 7}));
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().problems[0].suggestion, "sequence");
}

}  // namespace
}  // namespace moecast
