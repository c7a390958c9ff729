#include "runtime/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/memory_environment.h"

namespace moecast {
namespace {

std::string file_of(std::string json, std::size_t data_size) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  return out + json + std::string(data_size, 'd');
}

Result<SafetensorsHeader> parse(const std::string& json, std::size_t data_size) {
  const std::string file = file_of(json, data_size);
  return parse_header(std::string_view(file).substr(0, 8 + json.size()), Bytes(static_cast<std::int64_t>(file.size())),
                      "test");
}

TEST(Checksum, KnownAnswers) {
  EXPECT_EQ(crc32_of(bytes_of("123456789")), 0xcbf43926U);  // the check value of CRC-32/ISO-HDLC
  EXPECT_EQ(crc32_of(bytes_of("6789"), crc32_of(bytes_of("12345"))), 0xcbf43926U);
  EXPECT_EQ(crc32_of({}), 0U);
  EXPECT_EQ(to_hex(0xcbf43926U), "cbf43926");
  EXPECT_EQ(from_hex("cbf43926"), 0xcbf43926U);
  EXPECT_FALSE(from_hex("cbf4392"));
  EXPECT_FALSE(from_hex("CBF43926"));
}

TEST(Safetensors, NoTensorsAreSixteenBytes) {
  std::vector<SafetensorsEntry> none;
  EXPECT_EQ(make_header(none, {}), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

TEST(Safetensors, HeaderReadsBack) {
  std::vector<SafetensorsEntry> entries = {
      {"b", "F32", {2, 3}},   {"scalar", "I32", {}},    {"a", "F32", {4}},     {"big", "F64", {1}},
      {"small", "BF16", {3}}, {"empty", "F32", {0, 7}}, {"z\"\n", "F32", {1}}, {"blocks.3.w1", "BF16", {1, 1}}};
  sort_for_file(entries);
  EXPECT_EQ(entries.front().name, "big");
  EXPECT_EQ(entries[1].name, "a");
  const std::string text = make_header(entries, {{"format", "pt"}, {"step", "12"}});
  EXPECT_EQ(text.size() % static_cast<std::size_t>(kDataAlignment), 0U);
  const Bytes data = entries.back().end;
  const Bytes size = Bytes(static_cast<std::int64_t>(text.size())) + data;
  const Result<SafetensorsHeader> header = parse_header(text, size, "test");
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_EQ(header->entries, entries);
  EXPECT_EQ(header->metadata.at("step"), "12");
  EXPECT_EQ(header->data_begin.count(), static_cast<std::int64_t>(text.size()));
}

TEST(Safetensors, ReadsFilesInAnyOrderAndOfAnyDtype) {
  const Result<SafetensorsHeader> header = parse(
      R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}})",
      3);
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_EQ(header->entries[0].name, "a");
}

TEST(Safetensors, HostileHeadersAreRefused) {
  struct Bad {
    std::string json;
    std::size_t data;
    std::string reason;
  };
  const std::vector<Bad> cases = {
      {"[]", 0, "begin with {"},
      {" {}", 0, "begin with {"},
      {"{", 0, "JSON"},
      {"{}", 1, "end at byte 0"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8, "shape"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "gap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
       6, "overlap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3, "the file at"},
      {R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4, "F99"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "no size"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "no size"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "shape"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8, "shape"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "format"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "other fields"},
      {R"({"a":7})", 0, "format"},
      {R"({"__metadata__":{"a":1}})", 0, "no text"},
      {R"({"__metadata__":[]})", 0, "no object"},
  };
  for (const Bad& each : cases) {
    const Result<SafetensorsHeader> header = parse(each.json, each.data);
    ASSERT_FALSE(header.ok()) << each.json;
    EXPECT_NE(header.error().message.find(each.reason), std::string::npos)
        << each.json << ": " << header.error().text();
  }
}

TEST(Safetensors, FilesThatEndTooEarlyOrClaimTooMuchAreRefused) {
  MemoryEnvironment environment;
  ASSERT_TRUE(environment.create_folders("d").ok());
  const std::string good = file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  for (std::size_t size = 0; size < good.size(); ++size) {
    const std::filesystem::path path = "d/cut" + std::to_string(size);
    ASSERT_TRUE(write_synced(environment, path, good.substr(0, size)).ok());
    EXPECT_FALSE(read_header(environment, path).ok()) << size;
  }
  ASSERT_TRUE(write_synced(environment, "d/good", good).ok());
  EXPECT_TRUE(read_header(environment, "d/good").ok());
  std::string huge = good;
  huge[7] = '\x7f';
  ASSERT_TRUE(write_synced(environment, "d/huge", huge).ok());
  EXPECT_FALSE(read_header(environment, "d/huge").ok());
  EXPECT_FALSE(read_header(environment, "d/none").ok());
}

}  // namespace
}  // namespace moecast
