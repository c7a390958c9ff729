#include "models/timeline_json.h"

#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/assert.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string microseconds(std::int64_t nanoseconds) {
  ASSERT(nanoseconds >= 0, "{} ns", nanoseconds);
  return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

std::string_view category(Lane lane) {
  switch (lane) {
    case Lane::Compute:
      return "kernel";
    case Lane::Comm:
    case Lane::Tensor:
    case Lane::Send:
    case Lane::Receive:
      return "collective_comm";
    case Lane::CopyOut:
    case Lane::CopyIn:
      return "gpu_memcpy";
    case Lane::Storage:
      return "user_annotation";
  }
  ASSERT(false, "no such lane: {}", static_cast<int>(lane));
}

Bytes bytes_of(const Operator& op, std::int64_t bytes_per_element) {
  if (op.communication) return op.communication->buffer;
  Bytes total{0};
  for (const Work& work : op.work) total += bytes(work, bytes_per_element);
  return total;
}

/// What all events of one operator share: beginning and end of their text.
struct EventText {
  std::string head, args;
};

EventText event_text(const Operator& op, std::int64_t bytes_per_element) {
  EventText text;
  text.head = fmt::format(R"({{"ph": "X", "cat": "{}", "name": {}, "tid": {})", category(op.lane),
                          text_of(Json(op.name())), static_cast<int>(op.lane));
  text.args = fmt::format(R"("args": {{"op": {}, )", op.id.value());
  if (op.layer) text.args += fmt::format(R"("layer": {}, )", op.layer->value());
  text.args += fmt::format(R"("micro_batch": {}, "chunk": {}, "bytes": {})", op.micro_batch, op.chunk,
                           bytes_of(op, bytes_per_element).count());
  return text;
}

/// Ranks with spans, and how many each stands for.
std::vector<std::pair<std::int64_t, std::int64_t>> shown_ranks(const Timeline& timeline) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranks;
  for (const auto& [rank, count] : timeline.stands_for) ranks.emplace_back(rank.value(), count);
  for (std::int64_t rank = 0;
       ranks.size() < static_cast<std::size_t>(timeline.rank_count) && timeline.stands_for.empty(); ++rank) {
    ranks.emplace_back(rank, 1);
  }
  return ranks;
}

void write_names(std::string& out, const Timeline& timeline, const RunInfo& info) {
  std::vector<bool> used(kLaneCount, false);
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    for (const Operator& op : timeline.plan_of_stage(stage).operators) used[static_cast<std::size_t>(op.lane)] = true;
  }
  const auto meta = [&out](std::string_view what, std::int64_t rank, int lane, const Json& args) {
    out += fmt::format("{{\"ph\": \"M\", \"name\": \"{}\", \"pid\": {}, \"tid\": {}, \"args\": {}}},\n", what, rank,
                       lane, text_of(args));
  };
  for (const auto& [rank, count] : shown_ranks(timeline)) {
    const std::string others = count > 1 ? fmt::format(" and {} alike", count - 1) : std::string();
    meta("process_name", rank, 0, {{"name", fmt::format("rank {}{}", rank, others)}});
    meta("process_labels", rank, 0, {{"labels", info.device}});
    meta("process_sort_index", rank, 0, {{"sort_index", rank}});
    for (int lane = 0; lane < kLaneCount; ++lane) {
      if (!used[static_cast<std::size_t>(lane)]) continue;
      meta("thread_name", rank, lane, {{"name", to_text(static_cast<Lane>(lane))}});
      meta("thread_sort_index", rank, lane, {{"sort_index", lane}});
    }
  }
}

void write_spans(std::string& out, const Timeline& timeline) {
  std::vector<std::vector<EventText>> texts;  // by stage
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    const StepPlan& plan = timeline.plan_of_stage(stage);
    texts.emplace_back();
    for (const Operator& op : plan.operators) texts.back().push_back(event_text(op, plan.bytes_per_element));
  }
  for (const Span& span : timeline.spans) {
    const std::vector<EventText>& of_stage = texts[static_cast<std::size_t>(timeline.stage_of(span.rank))];
    ASSERT(span.op.index() < of_stage.size(), "span of operator {} of {}", span.op.value(), of_stage.size());
    const EventText& text = of_stage[span.op.index()];
    out += fmt::format("{}, \"pid\": {}, \"ts\": {}, \"dur\": {}, {}, \"step\": {}}}}},\n", text.head,
                       span.rank.value(), microseconds(span.start.time_since_epoch().count()),
                       microseconds(span.duration().count()), text.args, span.step);
  }
}

Json run_json(const Timeline& timeline, const RunInfo& info) {
  Workload resolved = info.workload;
  resolved.schedule = timeline.plan.schedule;
  Json json;
  json["schema"] = kTimelineSchema;
  json["command"] = info.command;
  json["name"] = info.name;
  json["source"] = timeline.source;
  json["device"] = info.device;
  json["paced"] = info.paced;
  json["seed"] = info.seed;
  json["revision"] = info.revision;
  json["rank_count"] = timeline.rank_count;
  json["workload"] = to_json(resolved);
  return json;
}

}  // namespace

std::string to_chrome_trace(const Timeline& timeline, const RunInfo& info) {
  Json devices = Json::array();
  for (const auto& [rank, count] : shown_ranks(timeline)) devices.push_back({{"id", rank}, {"name", info.device}});
  std::string out = "{\n\"schemaVersion\": 1,\n";
  out += fmt::format("\"deviceProperties\": {},\n", text_of(devices));
  out += "\"displayTimeUnit\": \"ms\",\n\"baseTimeNanoseconds\": 0,\n";
  out += fmt::format("\"moecast\": {},\n\"traceEvents\": [\n", text_of(run_json(timeline, info), 2));
  write_names(out, timeline, info);
  write_spans(out, timeline);
  out.erase(out.size() - 2, 1);  // the last comma: there is always a process name
  out += fmt::format("],\n\"traceName\": {}\n}}\n", text_of(Json(info.name)));
  return out;
}

}  // namespace moecast
