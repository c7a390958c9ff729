#include "runtime/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/file_names.h"
#include "runtime/checkpoint/model_identity.h"
#include "runtime/checkpoint/record.h"
#include "runtime/checkpoint/shard.h"

namespace moecast {
namespace {

Part example_part() {
  Part part;
  part.edit = 12;
  part.rank = 3;
  part.files = {{"data-000000012-0003-base-0.safetensors", Bytes(4096 + 64), Bytes(4096), 0x12345678}};
  part.slices = {{"blocks.0.attention.wqkv", Component::Weight, DType::F32, {4, 8}, {8, 24}, "", 0, Bytes(4096), 7},
                 {"blocks.1.experts.5.w1",
                  Component::FirstMoment,
                  DType::BF16,
                  {2, 2},
                  {0, 0},
                  "blocks.1.experts.5",
                  0,
                  Bytes(4160),
                  0}};
  return part;
}

Edit example_edit() {
  Edit edit;
  edit.number = 12;
  edit.fingerprint = "0123456789abcdef";
  edit.layout = {4, 2, 1, 1, 1};
  edit.state = {120, 61440, "seed 7", R"({"kind":"pec"})", {{"loss", "2.5"}}};
  edit.history = {{1, 4}, {9, 11}};
  edit.parts = {{Bytes(100), 1}, {Bytes(200), 0xffffffff}};
  return edit;
}

TEST(FileNames, ReadBack) {
  EXPECT_EQ(edit_file_name(12), "edit-000000012.json");
  EXPECT_EQ(parse_file_name("edit-000000012.json"), (FileName{FileKind::Edit, 12, 0}));
  EXPECT_EQ(parse_file_name(edit_file_name(12'345'678'901)), (FileName{FileKind::Edit, 12'345'678'901, 0}));
  EXPECT_EQ(parse_file_name(part_file_name(12, 3)), (FileName{FileKind::Part, 12, 3}));
  EXPECT_EQ(parse_file_name(data_file_name(12, 10003, "units", 11)), (FileName{FileKind::Data, 12, 10003}));
  EXPECT_EQ(parse_file_name(temporary_name(edit_file_name(5))), (FileName{FileKind::Temporary, 5, 0}));
  EXPECT_EQ(parse_file_name("model.json"), (FileName{FileKind::Model, 0, 0}));
}

TEST(FileNames, WhatIsNotOursIsNot) {
  for (const char* name :
       {"", "edit-12.json", "edit-0000000012.json", "edit-000000012.json.tmp.tmp", "edit-00000001x.json",
        "edit--00000012.json", "part-000000012.json", "data-000000012-0003-other-0.safetensors",
        "data-000000012-0003-base-.safetensors", "data-000000012-0003-base-00.safetensors", "../edit-000000012.json",
        "edit-99999999999999999999.json", "model.json ", ".tmp"}) {
    EXPECT_FALSE(parse_file_name(name).has_value()) << name;
  }
}

TEST(Manifest, RecordsReadBack) {
  const Result<Part> part = parse_part(to_text(example_part()), "test");
  ASSERT_TRUE(part.ok()) << part.error().text();
  EXPECT_EQ(part.value(), example_part());
  const Result<Edit> edit = parse_edit(to_text(example_edit()), "test");
  ASSERT_TRUE(edit.ok()) << edit.error().text();
  EXPECT_EQ(edit->state, example_edit().state);
  EXPECT_EQ(edit->history, example_edit().history);
  EXPECT_EQ(edit->parts, example_edit().parts);
  EXPECT_EQ(edit->layout.zero_stage, 1);
  const ModelIdentity model = {"tiny", {{"a", {2, 3}}, {"b", {}}}};
  EXPECT_EQ(parse_model(to_text(model), "test")->tensors, model.tensors);
}

TEST(Manifest, EveryTornOrTurnedByteIsNoticed) {
  const std::string text = to_text(example_edit());
  for (std::size_t size = 0; size < text.size(); ++size) {
    const Result<Edit> edit = parse_edit(text.substr(0, size), "test");
    ASSERT_FALSE(edit.ok()) << size;
    EXPECT_EQ(edit.error().kind, ErrorKind::RunFailed);
  }
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string turned = text;
    turned[bit / 8] = static_cast<char>(turned[bit / 8] ^ (1 << (bit % 8)));
    const Result<Edit> edit = parse_edit(turned, "test");
    ASSERT_FALSE(edit.ok()) << bit;
    EXPECT_EQ(edit.error().kind, ErrorKind::RunFailed);
  }
  EXPECT_FALSE(parse_edit(text + "\n", "test").ok());
  EXPECT_FALSE(parse_part(text, "test").ok());  // another kind of record
}

/// A record with its check line made good again after a change.
std::string reframed(std::string text, const std::string& from, const std::string& to) {
  text = text.substr(0, text.find('\n') + 1);
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  return text + "{\"bytes\":" + std::to_string(text.size()) + ",\"crc32\":\"" + to_hex(crc32_of(bytes_of(text))) +
         "\"}\n";
}

TEST(Manifest, ANewerVersionIsTheUsersMatterAndNotDamage) {
  const Result<Edit> edit = parse_edit(reframed(to_text(example_edit()), "\"version\":1", "\"version\":2"), "test");
  ASSERT_FALSE(edit.ok());
  EXPECT_EQ(edit.error().kind, ErrorKind::BadInput);
  EXPECT_TRUE(edit.error().message.starts_with(kNewerFormat)) << edit.error().text();
}

TEST(Manifest, IntactRecordsThatLieAreRefused) {
  const std::string part = to_text(example_part());
  EXPECT_TRUE(parse_part(reframed(part, "\"rank\"", "\"rank\""), "test").ok());
  const std::pair<const char*, const char*> lies[] = {
      {"data-000000012-0003-base-0.safetensors", "../../../etc/passwd"},
      {"data-000000012-0003-base-0.safetensors", "data-000000011-0003-base-0.safetensors"},
      {"\"elements\":[8,24]", "\"elements\":[8,33]"},
      {"\"elements\":[8,24]", "\"elements\":[-8,24]"},
      {"\"elements\":[8,24]", "\"elements\":[24,8]"},
      {"\"shape\":[4,8]", "\"shape\":[4611686018427387904,8]"},
      {"\"offset\":4096", "\"offset\":4100"},
      {"\"offset\":4096", "\"offset\":0"},
      {"\"offset\":4096", "\"offset\":9223372036854775807"},
      {"\"file\":0", "\"file\":1"},
      {"\"bytes\":4160", "\"bytes\":-1"},
      {"\"component\":\"weight\"", "\"component\":\"wait\""},
      {"\"dtype\":\"F32\"", "\"dtype\":\"F33\""},
      {"\"crc32\":\"00000007\"", "\"crc32\":\"7\""},
      {"\"unit\":\"\"", "\"unit\":1"},
      {"\"edit\":12,", ""},
  };
  for (const auto& [from, to] : lies) EXPECT_FALSE(parse_part(reframed(part, from, to), "test").ok()) << to;
  const std::string edit = to_text(example_edit());
  EXPECT_FALSE(parse_edit(reframed(edit, "[9,11]", "[9,12]"), "test").ok());
  EXPECT_FALSE(parse_edit(reframed(edit, "[9,11]", "[4,11]"), "test").ok());
}

TEST(Manifest, HistoriesGrowAndKnowTheirGaps) {
  History history = extended({}, 1, 4);
  EXPECT_EQ(extended(history, 5, 4), history);
  history = extended(history, 5, 6);
  EXPECT_EQ(history, (History{{1, 6}}));
  history = extended(history, 9, 9);
  EXPECT_TRUE(contains(history, 6));
  EXPECT_FALSE(contains(history, 7));
  EXPECT_TRUE(contains(history, 9));
  EXPECT_FALSE(contains(history, 10));
}

TEST(ModelIdentity, DiffersByNamesAndShapesOnly) {
  const ModelIdentity model = {"tiny", {{"a", {2, 3}}, {"b", {4}}}};
  const ModelIdentity reordered = {"other name", {{"b", {4}}, {"a", {2, 3}}}};
  EXPECT_EQ(model.fingerprint(), reordered.fingerprint());
  EXPECT_EQ(tensor_differences(model, reordered), "");
  const ModelIdentity other = {"tiny", {{"a", {3, 2}}, {"c", {4}}}};
  EXPECT_NE(model.fingerprint(), other.fingerprint());
  EXPECT_EQ(tensor_differences(model, other),
            "a is [2,3] here and [3,2] in the folder; b only here; c only in the folder");
}

TEST(Shard, SlicesAreNamedAndShapedForOtherReaders) {
  StoredSlice slice = {"w", Component::Weight, DType::F32, {4, 8}, {0, 32}, "", 0, Bytes(0), 0};
  EXPECT_EQ(stored_name(slice), "w.weight");
  EXPECT_EQ(stored_shape(slice), (std::vector<std::int64_t>{4, 8}));
  slice.elements = {8, 24};
  EXPECT_EQ(stored_name(slice), "w.weight[8:24]");
  EXPECT_EQ(stored_shape(slice), (std::vector<std::int64_t>{2, 8}));
  slice.elements = {8, 23};
  EXPECT_EQ(stored_shape(slice), (std::vector<std::int64_t>{15}));
}

}  // namespace
}  // namespace moecast
