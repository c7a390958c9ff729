#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_reader.h"
#include "models/timeline_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxRanks = 1'048'576;
constexpr std::size_t kMaxProblems = 50;
constexpr double kMaxMicroseconds = 1e12;  // 11 days: a double still tells nanoseconds apart

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// All problems of one file.
class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}
  void add(std::string pointer, std::string expected, std::string found) {
    if (problems_.size() < kMaxProblems) {
      problems_.push_back({file_, 0, 0, std::move(pointer), "conflict", std::move(expected), std::move(found), ""});
    }
  }
  [[nodiscard]] bool full() const { return problems_.size() >= kMaxProblems; }
  [[nodiscard]] Status status() const {
    if (problems_.empty()) return {};
    return Error{ErrorKind::BadInput, "", "", problems_};
  }

 private:
  std::string file_;
  std::vector<Problem> problems_;
};

/// The object "moecast": fills in `recorded` but for plan and spans.
Status read_run(const Json& json, const std::string& file, RecordedTimeline& recorded) {
  Result<JsonDocument> document = JsonDocument::parse(text_of(json), file);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  if (const std::string schema = reader.text("schema"); schema != kTimelineSchema) {
    reader.problem("schema", "unsupported", fmt::format("\"{}\"", kTimelineSchema), fmt::format("\"{}\"", schema));
  }
  recorded.info.command = reader.text("command");
  recorded.info.name = reader.text("name");
  recorded.timeline.source = reader.text("source");
  recorded.info.device = reader.text("device");
  recorded.info.paced = reader.boolean("paced");
  recorded.info.revision = reader.text("revision");
  recorded.timeline.rank_count = reader.integer("rank_count", 1, kMaxRanks);
  if (const Json seed = reader.raw("seed"); seed.is_number_unsigned()) {
    recorded.info.seed = seed.get<std::uint64_t>();
  } else {
    reader.problem("seed", "wrong-type", "an integer, 0 or more", text_of(seed));
  }
  const std::size_t before = reader.problem_count();
  recorded.info.workload = read_workload(reader);
  const Schedule& schedule = recorded.info.workload.schedule;
  if (reader.problem_count() == before && schedule.kind == ScheduleKind::Shortcut &&
      !(schedule.forward_slot && schedule.backward_slot)) {
    reader.problem("workload", "conflict", "slots that are numbers in a recorded shortcut schedule", "\"auto\"");
  }
  const Status status = reader.finish();
  if (status.ok()) return {};
  Error error = status.error();
  for (Problem& problem : error.problems) {  // lines were counted in a part of the file
    problem.line = problem.column = 0;
    problem.pointer = "/moecast" + problem.pointer;
  }
  return error;
}

/// An event's member if it is an integer in 0 .. end - 1.
std::optional<std::int64_t> index_at(const Json& object, const char* key, std::int64_t end) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_number_unsigned()) return std::nullopt;
  const auto value = object[key].get<std::uint64_t>();
  return value < static_cast<std::uint64_t>(end) ? std::optional(static_cast<std::int64_t>(value)) : std::nullopt;
}

std::optional<std::int64_t> nanoseconds_at(const Json& object, const char* key) {
  if (!object.contains(key) || !object[key].is_number()) return std::nullopt;
  const double value = object[key].get<double>();
  if (!(value >= 0 && value <= kMaxMicroseconds)) return std::nullopt;
  return std::llround(value * 1000);
}

void read_event(const Json& event, const std::string& at, Timeline& timeline, Problems& problems) {
  const auto member = [](const Json& object, const char* key) {
    return object.is_object() && object.contains(key) ? text_of(object[key]) : std::string("nothing");
  };
  const Json args = event.contains("args") ? event["args"] : Json();
  const auto rank = index_at(event, "pid", timeline.rank_count);
  const StepPlan& plan = rank ? timeline.plan_of(Rank(static_cast<std::int32_t>(*rank))) : timeline.plan;
  const auto op = index_at(args, "op", std::ssize(plan.operators));
  const auto step = index_at(args, "step", std::numeric_limits<std::int32_t>::max());
  const auto start = nanoseconds_at(event, "ts");
  const auto duration = nanoseconds_at(event, "dur");
  if (!rank) problems.add(at + "/pid", fmt::format("a rank below {}", timeline.rank_count), member(event, "pid"));
  if (!step) problems.add(at + "/args/step", "a step number", member(args, "step"));
  if (!start) problems.add(at + "/ts", "microseconds, 0 or more", member(event, "ts"));
  if (!duration) problems.add(at + "/dur", "microseconds, 0 or more", member(event, "dur"));
  if (!op) {
    problems.add(at + "/args/op", fmt::format("one of the {} operators of this workload's plan", plan.operators.size()),
                 member(args, "op"));
    return;
  }
  const Operator& planned = plan.operators[static_cast<std::size_t>(*op)];
  const Json name = planned.name();
  const Json lane = static_cast<int>(planned.lane);
  if (!event.contains("name") || event["name"] != name) {
    problems.add(at + "/name", fmt::format("{}, as operator {} is planned here", text_of(name), *op),
                 member(event, "name"));
  }
  if (!event.contains("tid") || event["tid"] != lane) {
    problems.add(at + "/tid", fmt::format("{}, the {} lane", text_of(lane), to_text(planned.lane)),
                 member(event, "tid"));
  }
  if (!rank || !step || !start || !duration) return;
  const Instant begin{Duration(*start)};
  timeline.spans.push_back({planned.id, Rank(static_cast<std::int32_t>(*rank)), planned.lane,
                            static_cast<std::int32_t>(*step), begin, begin + Duration(*duration)});
}

void read_events(const Json& events, Timeline& timeline, Problems& problems) {
  for (std::size_t i = 0; i < events.size() && !problems.full(); ++i) {
    if (!events[i].is_object()) {
      problems.add(fmt::format("/traceEvents/{}", i), "an object", text_of(events[i]));
    } else if (events[i].contains("ph") && events[i]["ph"] == "X") {
      read_event(events[i], fmt::format("/traceEvents/{}", i), timeline, problems);
    }
  }
}

/// Every (step, rank) that occurs ran every operator once.
void check_whole(const Timeline& timeline, Problems& problems) {
  std::vector<std::tuple<std::int32_t, Rank, OpId>> ran;
  for (const Span& span : timeline.spans) ran.emplace_back(span.step, span.rank, span.op);
  std::sort(ran.begin(), ran.end());
  for (std::size_t i = 0, end = 0; i < ran.size(); i = end) {
    const auto [step, rank, first] = ran[i];
    const std::size_t count = timeline.plan_of(rank).operators.size();
    std::size_t distinct = 0;
    for (; end < ran.size() && std::get<0>(ran[end]) == step && std::get<1>(ran[end]) == rank; ++end) {
      distinct += end == i || std::get<2>(ran[end]) != std::get<2>(ran[end - 1]);
    }
    if (distinct != count || end - i != count) {
      problems.add("/traceEvents",
                   fmt::format("{} operators once each in step {} of rank {}", count, step, rank.value()),
                   fmt::format("{} events of {} operators", end - i, distinct));
    }
  }
  if (ran.empty()) problems.add("/traceEvents", "at least one step", "none");
}

Result<Json> parse(const std::string& text, const std::string& file) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_object()) return json;
  // The strict parser says where the text goes wrong.
  const Result<JsonDocument> document = JsonDocument::parse(text, file);
  if (!document.ok()) return document.error();
  return Error{ErrorKind::BadInput, file, "expected an object with \"traceEvents\""};
}

}  // namespace

Result<RecordedTimeline> read_timeline(const std::filesystem::path& path) {
  const std::string file = path.string();
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return text.error();
  const Result<Json> json = parse(*text, file);
  if (!json.ok()) return json.error();
  if (!json->contains("moecast") || !json->contains("traceEvents") || !(*json)["traceEvents"].is_array()) {
    return Error{ErrorKind::BadInput, file,
                 "expected a timeline written by moecast, with \"moecast\" and a list \"traceEvents\""};
  }
  RecordedTimeline recorded;
  RETURN_IF_ERROR(read_run((*json)["moecast"], file, recorded));
  Result<std::vector<StepPlan>> plans = build_stage_plans(request_of(recorded.info.workload));
  if (!plans.ok()) return Error{ErrorKind::BadInput, file, "/moecast/workload: " + plans.error().text()};
  Timeline& timeline = recorded.timeline;
  timeline.plan = std::move(plans->front());
  timeline.later_stages.assign(std::make_move_iterator(plans->begin() + 1), std::make_move_iterator(plans->end()));
  if (timeline.rank_count % timeline.stage_count() != 0) {
    return Error{ErrorKind::BadInput, file,
                 fmt::format("/moecast/rank_count: expected a multiple of the {} stages of its "
                             "workload, found {}",
                             timeline.stage_count(), timeline.rank_count)};
  }

  Problems problems(file);
  read_events((*json)["traceEvents"], timeline, problems);
  if (problems.status().ok()) check_whole(timeline, problems);
  RETURN_IF_ERROR(problems.status());
  std::sort(timeline.spans.begin(), timeline.spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.step, a.rank, a.lane, a.start, a.op) < std::tie(b.step, b.rank, b.lane, b.start, b.op);
  });
  return recorded;
}

}  // namespace moecast
