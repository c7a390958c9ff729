#include "tools/chakra.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "models/metrics.h"
#include "tools/protobuf.h"

namespace moecast {
namespace {

// Field numbers and enumerators of et_def.proto.
enum NodeField : std::uint32_t { kId = 1, kName = 2, kType = 3, kDataDeps = 5, kDuration = 7, kAttribute = 10 };
enum AttributeField : std::uint32_t {
  kAttributeName = 1,
  kInt32 = 7,
  kInt64 = 9,
  kUint64 = 13,
  kBool = 27,
  kString = 29
};
enum NodeType : std::uint64_t { kCompute = 4, kSend = 5, kReceive = 6, kCollective = 7 };

std::uint64_t collective_type(Collective collective) {
  switch (collective) {
    case Collective::AllReduce:
      return 0;
    case Collective::AllGather:
      return 2;
    case Collective::Broadcast:
      return 5;
    case Collective::AllToAll:
      return 6;
    case Collective::ReduceScatter:
    case Collective::PointToPoint:
      break;
  }
  return 7;
}

void add_attribute(ProtobufMessage& node, std::string_view name, AttributeField field, std::uint64_t value) {
  ProtobufMessage attribute;
  attribute.text(kAttributeName, name);
  attribute.varint(field, value);
  node.message(kAttribute, attribute);
}

/// The groups of a layout by their members, numbered from 1 (0 means all ranks to ASTRA-sim).
using GroupNames = std::map<std::vector<Rank>, int>;

int name_of(GroupNames& names, const std::vector<Rank>& members) {
  return names.try_emplace(members, static_cast<int>(names.size()) + 1).first->second;
}

std::uint64_t microseconds(Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(1, (duration.count() + 500) / 1000));
}

void add_compute(ProtobufMessage& node, const Operator& op, std::int64_t bytes_per_element) {
  Flops operations{0};
  Bytes moved{0};
  for (const Work& work : op.work) {
    operations += flops(work);
    moved += bytes(work, bytes_per_element);
  }
  add_attribute(node, "num_ops", kInt64, static_cast<std::uint64_t>(operations.count()));
  add_attribute(node, "tensor_size", kUint64, static_cast<std::uint64_t>(std::max<std::int64_t>(1, moved.count())));
}

void add_collective(ProtobufMessage& node, const Communication& communication, int group) {
  add_attribute(node, "comm_type", kInt64, collective_type(communication.collective));
  add_attribute(node, "comm_size", kInt64, static_cast<std::uint64_t>(communication.buffer.count()));
  ProtobufMessage name;
  name.text(kAttributeName, "pg_name");
  name.text(kString, std::to_string(group));
  node.message(kAttribute, name);
}

/// The n-th message from one stage to another has the tag n on both sides.
class MessageTags {
 public:
  std::uint64_t next(OpKind kind, std::int32_t peer) { return counts_[{kind, peer}]++; }

 private:
  std::map<std::pair<OpKind, std::int32_t>, std::uint64_t> counts_;
};

void add_message(ProtobufMessage& node, const Operator& op, const ParallelLayout& layout, Rank rank,
                 MessageTags& tags) {
  const std::int32_t stage = *op.communication->peer_stage;
  const std::vector<Rank> stages = layout.members(Group::Pipeline, rank);
  const auto own = static_cast<std::uint64_t>(rank.value());
  const auto peer = static_cast<std::uint64_t>(stages[static_cast<std::size_t>(stage)].value());
  const bool sends = op.kind == OpKind::Send;
  add_attribute(node, "comm_src", kInt32, sends ? own : peer);
  add_attribute(node, "comm_dst", kInt32, sends ? peer : own);
  add_attribute(node, "comm_tag", kInt32, tags.next(op.kind, stage));
  add_attribute(node, "comm_size", kInt64, static_cast<std::uint64_t>(op.communication->buffer.count()));
}

/// What an operator is to the trace of a rank.
NodeType type_of(const Operator& op, const ParallelLayout& layout) {
  if (!op.communication) return kCompute;
  if (op.kind == OpKind::Send) return kSend;
  if (op.kind == OpKind::Receive) return kReceive;
  return layout.group_size(op.communication->group) > 1 ? kCollective : kCompute;
}

std::string trace_of(const RecordedTimeline& recorded, Rank rank, GroupNames& names) {
  const ParallelLayout& layout = recorded.info.workload.layout;
  const StepPlan& plan = recorded.timeline.plan_of(rank);
  const std::vector<Duration> durations = median_durations(recorded.timeline, recorded.timeline.stage_of(rank));
  std::string file;
  ProtobufMessage metadata;
  metadata.text(1, "0.0.4");  // GlobalMetadata.version
  append_delimited(file, metadata);
  std::array<std::optional<OpId>, kLaneCount> last;
  MessageTags tags;
  for (const Operator& op : plan.operators) {
    const NodeType type = type_of(op, layout);
    ProtobufMessage node;
    node.varint(kId, op.id.index());
    node.text(kName, op.name());
    node.varint(kType, type);
    std::vector<OpId> before = op.dependencies;
    std::optional<OpId>& on_lane = last[static_cast<std::size_t>(op.lane)];
    if (on_lane && std::find(before.begin(), before.end(), *on_lane) == before.end()) before.push_back(*on_lane);
    on_lane = op.id;
    for (const OpId id : before) node.varint(kDataDeps, id.index());
    node.varint(kDuration, microseconds(durations[op.id.index()]));
    add_attribute(node, "is_cpu_op", kBool, 0);
    if (type == kCompute) {
      add_compute(node, op, plan.bytes_per_element);
    } else if (type == kCollective) {
      add_collective(node, *op.communication, name_of(names, layout.members(op.communication->group, rank)));
    } else {
      add_message(node, op, layout, rank, tags);
    }
    append_delimited(file, node);
  }
  return file;
}

}  // namespace

ChakraTraces chakra_traces(const RecordedTimeline& recorded) {
  ChakraTraces out;
  GroupNames names;
  for (std::int64_t rank = 0; rank < recorded.timeline.rank_count; ++rank) {
    out.ranks.push_back(trace_of(recorded, Rank(static_cast<std::int32_t>(rank)), names));
  }
  std::map<int, std::vector<std::int32_t>> groups;
  for (const auto& [members, name] : names) {
    for (const Rank member : members) groups[name].push_back(member.value());
  }
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, members] : groups) json[std::to_string(name)] = members;
  out.groups = json.dump(1) + '\n';
  return out;
}

}  // namespace moecast
