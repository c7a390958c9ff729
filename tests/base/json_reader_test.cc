#include "base/json_reader.h"

#include <array>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/nearest.h"

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

TEST(JsonDocument, ValuesPutInFromElsewhereKeepTheirPlace) {
  const JsonDocument other = document("{\"values\": [\n{\"size\": 1}, {\"size\": 2}]}");
  const JsonDocument base = document(R"({"batch": {"size": 3, "n": 4}})");
  JsonDocument doc = base.clone();
  ASSERT_TRUE(doc.put("/batch", other, "/values/1").ok());
  EXPECT_EQ(doc.json().dump(), R"({"batch":{"size":2}})");
  EXPECT_EQ(base.json().dump(), R"({"batch":{"size":3,"n":4}})");
  EXPECT_EQ(doc.place("/batch/size").line, 2);
  EXPECT_EQ(doc.place("/batch/size").column, 23);
  ASSERT_TRUE(doc.put_computed("/new/key", 7, "/batch").ok());
  EXPECT_EQ(doc.place("/new/key").column, 14);
  EXPECT_FALSE(doc.put("/batch/size/x", other, "/values/0").ok());
}

TEST(JsonDocument, APartIsADocumentThatMayExtendOthers) {
  static_cast<void>(write_temporary("part_base.json", R"({"a": 1, "b": {"c": 2}})"));
  const Result<JsonDocument> whole = JsonDocument::read(
      write_temporary("part.json", "{\"base\": {\"extends\": \"part_base.json\",\n \"b\": {\"d\": 3}}, \"n\": 1}"));
  ASSERT_TRUE(whole.ok());
  const Result<JsonDocument> part = whole->part("/base");
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(part->json().dump(), R"({"a":1,"b":{"c":2,"d":3}})");
  EXPECT_TRUE(part->place("/b/c").file.ends_with("part_base.json"));
  EXPECT_EQ(part->place("/b/d").line, 2);
}

TEST(JsonDocument, ColumnsCountCharactersAndSkipTheByteOrderMark) {
  const JsonDocument doc = document(
      "\xEF\xBB\xBF{\"n\xC3\xBC"
      "m\": 1, \"b\": \"x\\\\\\\"\",\n \"c\":[-1.5e3,true]}");
  EXPECT_EQ(doc.place("/b").column, 17);
  EXPECT_EQ(doc.place("/c/0").line, 2);
  EXPECT_EQ(doc.place("/c/0").column, 7);
  EXPECT_EQ(doc.place("/c/1").column, 14);
  EXPECT_EQ(doc.place("/c/1/none").column, 14);  // the nearest value around it
}

TEST(JsonDocument, MergePatchFollowsTheExamplesOfRfc7386) {
  // RFC 7386, appendix A, those whose original and patch are objects.
  const std::vector<std::array<std::string, 3>> cases = {
      {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
      {R"({"a":"b"})", R"({"a":null})", R"({})"},
      {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
      {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"c"})", R"({"a":["b"]})", R"({"a":["b"]})"},
      {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
      {R"({"a":[{"b":"c"}]})", R"({"a":[1]})", R"({"a":[1]})"},
      {R"({"e":null})", R"({"a":1})", R"({"a":1})"},  // differs: a scenario holds no null
      {R"({})", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
  };
  for (const auto& [original, patch, expected] : cases) {
    write_temporary("original.json", original);
    const std::string extending = patch.substr(0, 1) + R"("extends":"original.json")" + "," + patch.substr(1);
    const Result<JsonDocument> merged = JsonDocument::read(write_temporary("patch.json", extending));
    ASSERT_TRUE(merged.ok()) << merged.error().text();
    EXPECT_EQ(merged->json().dump(), expected) << original << " " << patch;
  }
}

TEST(JsonDocument, SetKeepsThePlacesOfItsNeighbours) {
  JsonDocument doc = document("{\"a\": 1,\n \"ab\": 2}");
  ASSERT_TRUE(doc.set("/a", "5").ok());
  EXPECT_EQ(doc.place("/ab").line, 2);
  EXPECT_EQ(doc.place("/a").file, "--set /a");
  EXPECT_EQ(doc.place("/a").line, 0);
}

TEST(JsonDocument, SetTakesTextThatIsNoJsonAsText) {
  JsonDocument doc = document("{}");
  ASSERT_TRUE(doc.set("/cluster/link", "400 Gb/s").ok());
  ASSERT_TRUE(doc.set("/a~1b", "x").ok());
  JsonReader reader(doc);
  EXPECT_EQ(reader.object("cluster").bytes_per_second("link"), BytesPerSecond(50e9));
  EXPECT_EQ(reader.text("a/b"), "x");
  EXPECT_TRUE(reader.finish().ok());
  EXPECT_FALSE(doc.set(std::string(1000, '/'), "1").ok());
}

TEST(JsonReader, ReportsFiftyProblemsAndHowManyThereAre) {
  std::string text = "{";
  for (int i = 0; i < 80; ++i) text += (i > 0 ? "," : "") + ("\"key" + std::to_string(i)) + "\": 1";
  const JsonDocument doc = document(text + "}");
  JsonReader reader(doc);
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().problems.size(), 50U);
  EXPECT_EQ(status.error().message, "80 problems, the first 50:");
  EXPECT_EQ(reader.finish().error().message, status.error().message);  // asking again adds nothing
}

TEST(JsonReader, PathsAreRelativeToTheFileInWhichTheyStand) {
  const std::string path = write_temporary("paths.json", R"({"text": "data/a.txt", "absolute": "/b"})");
  const Result<JsonDocument> doc = JsonDocument::read(path);
  ASSERT_TRUE(doc.ok());
  JsonReader reader(*doc);
  EXPECT_EQ(reader.path("text"), (std::filesystem::path(testing::TempDir()) / "data/a.txt").lexically_normal());
  EXPECT_EQ(reader.path("absolute"), std::filesystem::path("/b"));
  EXPECT_EQ(reader.path("none", "c"), std::filesystem::path("c"));
  EXPECT_TRUE(reader.finish().ok());
}

TEST(JsonReader, TakesOverTheProblemsOfAnotherFile) {
  const JsonDocument doc = document("{\"model\": \"m.json\",\n \"other\": \"o.json\", \"n\": -1}");
  JsonReader reader(doc);
  reader.problems_of("model",
                     Error{ErrorKind::BadInput, "", "", {{"m.json", 3, 1, "/d", "out-of-range", "a", "b", ""}}});
  reader.problems_of("other", Error{ErrorKind::BadInput, "o.json", "no such file"});
  EXPECT_EQ(reader.problem_count(), 2U);
  EXPECT_EQ(reader.text("model"), "m.json");
  EXPECT_EQ(reader.problem_count(), 2U);
  (void)reader.integer("n", 0, 9);
  EXPECT_EQ(reader.problem_count(), 3U);
  (void)reader.has("other");
  const Status status = reader.finish();
  ASSERT_FALSE(status.ok());
  ASSERT_EQ(status.error().problems.size(), 3U);
  EXPECT_EQ(status.error().problems[0].text(), "m.json:3:1: /d: expected a, found b");
  EXPECT_EQ(status.error().problems[1].text(),
            "test.json:2:11: /other: expected a readable file, found o.json: no such file");
}

TEST(NearestName, StaysWithinAThirdOfTheLength) {
  const std::vector<std::string> names = {"nodes", "ranks", "bandwidth"};
  EXPECT_EQ(nearest_name("nodez", names), "nodes");
  EXPECT_EQ(nearest_name("bandwith", names), "bandwidth");
  EXPECT_EQ(nearest_name("latency", names), "");
}

}  // namespace
}  // namespace moecast
