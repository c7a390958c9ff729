#include <gtest/gtest.h>
#include <zlib.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>

#include "base/file.h"
#include "sim/scenario.h"
#include "tests/tools/program_testing.h"
#include "tests/tools/run_testing.h"
#include "tools/chakra.h"
#include "tools/protobuf.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_program::run_moecast;
using testing_program::source_folder;
using testing_program::TestFolder;

// A reader of the wire format, apart from the writer ------------------------------------------------------------------

struct Field {
  std::uint64_t number = 0;
  std::string bytes;  // length-delimited ones
};
using Message = std::multimap<std::uint32_t, Field>;

std::uint64_t read_varint(std::string_view& text) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(text.at(0));
    text.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
}

std::string read_bytes(std::string_view& text) {
  const std::uint64_t size = read_varint(text);
  std::string out(text.substr(0, size));
  EXPECT_EQ(out.size(), size);
  text.remove_prefix(out.size());
  return out;
}

Message read_message(std::string_view text) {
  Message out;
  while (!text.empty()) {
    const std::uint64_t tag = read_varint(text);
    Field field;
    if ((tag & 7) == 2) {
      field.bytes = read_bytes(text);
    } else {
      EXPECT_EQ(tag & 7, 0U) << "wire type";
      field.number = read_varint(text);
    }
    out.emplace(static_cast<std::uint32_t>(tag >> 3), field);
  }
  return out;
}

struct Node {
  std::uint64_t id = 0, type = 0, duration = 0;
  std::string name;
  std::vector<std::uint64_t> dependencies;
  std::map<std::string, Message> attributes;

  [[nodiscard]] std::uint64_t value(const std::string& attribute, std::uint32_t field) const {
    return attributes.at(attribute).find(field)->second.number;
  }
};

std::vector<Node> read_trace(const std::string& file) {
  std::string_view rest = file;
  const Message metadata = read_message(read_bytes(rest));
  EXPECT_EQ(metadata.find(1)->second.bytes, "0.0.4");
  std::vector<Node> out;
  while (!rest.empty()) {
    const Message message = read_message(read_bytes(rest));
    Node node;
    node.id = message.find(1)->second.number;
    node.name = message.find(2)->second.bytes;
    node.type = message.find(3)->second.number;
    node.duration = message.find(7)->second.number;
    for (auto [at, end] = message.equal_range(5); at != end; ++at) node.dependencies.push_back(at->second.number);
    for (auto [at, end] = message.equal_range(10); at != end; ++at) {
      const Message attribute = read_message(at->second.bytes);
      node.attributes[attribute.find(1)->second.bytes] = attribute;
    }
    out.push_back(std::move(node));
  }
  return out;
}

TEST(Protobuf, WritesTheBytesOfTheEncodingGuide) {
  ProtobufMessage message;
  message.varint(1, 150);
  EXPECT_EQ(message.bytes(), std::string("\x08\x96\x01"));
  ProtobufMessage text;
  text.text(2, "testing");
  EXPECT_EQ(text.bytes(), std::string("\x12\x07testing"));
  ProtobufMessage outer;
  outer.message(3, message);
  EXPECT_EQ(outer.bytes(), std::string("\x1a\x03\x08\x96\x01"));
}

/// A scenario of the quickstart, run.
RecordedTimeline recorded_run(const std::string& layout = R"({"data": 2, "expert": 2})") {
  Result<JsonDocument> document = JsonDocument::read(source_folder() / "experiments/quickstart/simulate/top2.json");
  EXPECT_TRUE(document->set("/workload/parallel", layout).ok());
  const Result<Scenario> scenario = read_scenario(*document);
  EXPECT_TRUE(scenario.ok()) << (scenario.ok() ? "" : scenario.error().text());
  RecordedTimeline out;
  out.timeline = simulate(*scenario).value();
  out.info.workload = scenario->workload;
  return out;
}

TEST(Chakra, HasANodeForEachOperatorAndItsDependencies) {
  const RecordedTimeline run = recorded_run();
  const ChakraTraces traces = chakra_traces(run);
  ASSERT_EQ(traces.ranks.size(), 2U);
  const std::vector<Node> nodes = read_trace(traces.ranks[1]);
  const std::vector<Operator>& operators = run.timeline.plan.operators;
  ASSERT_EQ(nodes.size(), operators.size());
  std::size_t collectives = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    EXPECT_EQ(node.id, i);
    EXPECT_EQ(node.name, operators[i].name());
    EXPECT_GE(node.duration, 1U);
    EXPECT_EQ(node.value("is_cpu_op", 27), 0U);
    const std::set<std::uint64_t> before(node.dependencies.begin(), node.dependencies.end());
    EXPECT_EQ(before.size(), node.dependencies.size()) << "a dependency twice";
    for (const std::uint64_t id : before) EXPECT_LT(id, i);
    for (const OpId id : operators[i].dependencies) EXPECT_TRUE(before.contains(id.index()));
    if (node.type != 7) {
      EXPECT_EQ(node.type, 4U);
      EXPECT_GE(node.value("tensor_size", 13), 1U);
      continue;
    }
    ++collectives;
    EXPECT_EQ(node.value("comm_size", 9), static_cast<std::uint64_t>(operators[i].communication->buffer.count()));
    const bool all_to_all = operators[i].communication->collective == Collective::AllToAll;
    EXPECT_EQ(node.value("comm_type", 9), all_to_all ? 6U : 0U);
    const std::string group = node.attributes.at("pg_name").find(29)->second.bytes;
    EXPECT_EQ(nlohmann::json::parse(traces.groups).at(group), nlohmann::json({0, 1}));
  }
  EXPECT_GT(collectives, 0U);
}

TEST(Chakra, MessagesOfAPipelineMeet) {
  const RecordedTimeline run = recorded_run(R"({"data": 1, "expert": 1, "pipeline": 2})");
  const ChakraTraces traces = chakra_traces(run);
  ASSERT_EQ(traces.ranks.size(), 2U);
  std::multiset<std::array<std::uint64_t, 4>> sent, received;  // from, to, tag, bytes
  for (const std::string& trace : traces.ranks) {
    for (const Node& node : read_trace(trace)) {
      if (node.type != 5 && node.type != 6) continue;
      auto& side = node.type == 5 ? sent : received;
      side.insert({node.value("comm_src", 7), node.value("comm_dst", 7), node.value("comm_tag", 7),
                   node.value("comm_size", 9)});
    }
  }
  EXPECT_FALSE(sent.empty());
  EXPECT_EQ(sent, received);
}

std::string unzipped(const std::string& packed) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string out(64 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TEST(ExportCommand, PacksATimelineForPerfetto) {
  const TestFolder folder;
  testing_runs::write_run(folder.path() / "run", "simulate", "a", Duration(1000));
  const auto outcome = run_moecast({"export", "run", "--perfetto", "-o", "a.json.gz"}, folder.path());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(unzipped(*read_file(folder.path() / "a.json.gz")), *read_file(folder.path() / "run/timeline.json"));
  EXPECT_EQ(run_moecast({"export", "run", "--perfetto", "-o", "a.json.gz"}, folder.path()).exit_code, 2);
  EXPECT_EQ(run_moecast({"export", "run", "-o", "b"}, folder.path()).exit_code, 2);
  EXPECT_EQ(run_moecast({"export", "run", "--perfetto", "--chakra", "-o", "b"}, folder.path()).exit_code, 2);
  ASSERT_EQ(run_moecast({"export", "run", "--chakra", "-o", "out/b"}, folder.path()).exit_code, 0);
  for (const char* name : {"b.0.et", "b.1.et", "b.comm_group.json"})
    EXPECT_TRUE(fs::exists(folder.path() / "out" / name));
}

}  // namespace
}  // namespace moecast
