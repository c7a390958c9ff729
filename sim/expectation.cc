#include "sim/expectation.h"

#include <charconv>
#include <cmath>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "base/units.h"

namespace moecast {
namespace {

constexpr double kMaxRatio = 1e9;

const EnumNames<Metric> kMetrics = {
    {"step_time", Metric::StepTime},
    {"compute", Metric::Compute},
    {"communication", Metric::Communication},
    {"exposed", Metric::Exposed},
    {"all_to_all", Metric::AllToAll},
    {"exposed_all_to_all", Metric::ExposedAllToAll},
    {"overlap", Metric::Overlap},
    {"communication_share", Metric::CommunicationShare},
    {"speedup", Metric::Speedup},
};
const EnumNames<Scope> kScopes = {
    {"step", Scope::Step},         {"forward", Scope::Forward},
    {"backward", Scope::Backward}, {"forward_blocks", Scope::ForwardBlocks},
    {"blocks", Scope::Blocks},
};
constexpr std::string_view kForwardTime = "forward_time";

constexpr std::int64_t kMaxTimes = 1'000'000;
constexpr double kSameDeviation = 0.005;

/// "10 %" -> 0.1, "-8 %" -> -0.08, "+8 %" -> 0.08.
std::optional<double> parse_percent(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double percent = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
  std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  const bool good = error == std::errc() && rest == "%" && std::isfinite(percent);
  return good ? std::optional(percent / 100) : std::nullopt;
}

double read_value(JsonReader& reader, Metric metric) {
  return is_time(metric) ? seconds(reader.duration("value")) : reader.number("value", 0, kMaxRatio);
}

void read_tolerance(JsonReader& reader, Expectation& expectation) {
  const std::size_t before = reader.problem_count();
  expectation.tolerance = reader.text("tolerance");
  if (reader.problem_count() != before) return;
  if (const auto fraction = parse_percent(expectation.tolerance); fraction && *fraction >= 0) {
    expectation.allowed = *fraction * expectation.value;
    return;
  }
  const Result<Duration> absolute = parse_duration(expectation.tolerance);
  if (is_time(expectation.metric) && absolute.ok()) {
    expectation.allowed = seconds(*absolute);
    return;
  }
  reader.problem("tolerance", "bad-unit", is_time(expectation.metric) ? "\"10 %\" or \"0.5 ms\"" : "\"10 %\"",
                 expectation.tolerance);
}

void read_known_deviation(JsonReader& reader, Expectation& expectation) {
  if (!reader.has("known_deviation")) return;
  const std::size_t before = reader.problem_count();
  const std::string text = reader.text("known_deviation");
  if (reader.problem_count() != before) return;
  expectation.known_deviation = parse_percent(text);
  if (!expectation.known_deviation) reader.problem("known_deviation", "bad-unit", "\"-8 %\"", text);
  if (expectation.note.empty()) reader.problem("note", "missing-key", "why the deviation is what it is");
}

Expectation read_expectation(JsonReader& reader) {
  EnumNames<Metric> metrics = kMetrics;
  metrics.emplace_back(kForwardTime, Metric::StepTime);
  Expectation expectation;
  const bool forward_time = reader.kind("metric") == "string" && reader.text("metric") == kForwardTime;
  expectation.metric = reader.choice("metric", metrics);
  expectation.scope = forward_time ? Scope::Forward : reader.choice("scope", kScopes, std::optional(Scope::Step));
  expectation.value = read_value(reader, expectation.metric);
  read_tolerance(reader, expectation);
  expectation.source = reader.text("source");
  expectation.note = reader.text("note", "");
  read_known_deviation(reader, expectation);
  if (expectation.metric != Metric::Speedup) return expectation;
  expectation.relative_to = reader.path("relative_to");
  if (!reader.has("beside")) return expectation;
  expectation.times = reader.integer("times", 1, kMaxTimes, expectation.times);
  for (JsonReader& other : reader.objects("beside")) {
    expectation.beside.push_back({other.path("scenario"), other.integer("times", 1, kMaxTimes, 1),
                                  other.choice("scope", kScopes, std::optional(expectation.scope))});
  }
  return expectation;
}

bool belongs(const Operator& op, Scope scope) {
  switch (scope) {
    case Scope::Step:
      return true;
    case Scope::Forward:
      return op.phase == Phase::Forward;
    case Scope::Backward:
      return op.phase == Phase::Backward || op.phase == Phase::WeightGradient;
    case Scope::ForwardBlocks:
      return op.phase == Phase::Forward && op.layer.has_value();
    case Scope::Blocks:
      return op.phase != Phase::Update && op.layer.has_value() && op.kind != OpKind::GradientReduce;
  }
  return false;
}

}  // namespace

std::vector<Expectation> read_expectations(JsonReader& scenario) {
  std::vector<Expectation> expectations;
  for (JsonReader& reader : scenario.objects("expect", true)) expectations.push_back(read_expectation(reader));
  return expectations;
}

Judgement judgement_of(const Expectation& expectation, double ours) {
  if (std::abs(ours - expectation.value) <= expectation.allowed) return Judgement::Pass;
  if (!expectation.known_deviation) return Judgement::Fail;
  const double deviation = (ours - expectation.value) / expectation.value;
  return std::abs(deviation - *expectation.known_deviation) <= kSameDeviation ? Judgement::Known : Judgement::Fail;
}

nlohmann::ordered_json to_json(const Expectation& expectation) {
  nlohmann::ordered_json json = {{"metric", name_of(kMetrics, expectation.metric)}};
  if (expectation.scope != Scope::Step) json["scope"] = name_of(kScopes, expectation.scope);
  if (expectation.relative_to) json["relative_to"] = expectation.relative_to->generic_string();
  if (is_time(expectation.metric)) {
    json["value"] = to_text(Duration(std::llround(expectation.value * 1e9)));
  } else {
    json["value"] = expectation.value;
  }
  json["tolerance"] = expectation.tolerance;
  if (expectation.known_deviation) json["known_deviation"] = fmt::format("{:+g} %", 100 * *expectation.known_deviation);
  if (!expectation.beside.empty()) json["times"] = expectation.times;
  for (const Beside& other : expectation.beside) {
    json["beside"].push_back({{"scenario", other.scenario.generic_string()},
                              {"times", other.times},
                              {"scope", name_of(kScopes, other.scope)}});
  }
  json["source"] = expectation.source;
  if (!expectation.note.empty()) json["note"] = expectation.note;
  return json;
}

bool is_time(Metric metric) {
  return metric != Metric::Overlap && metric != Metric::CommunicationShare && metric != Metric::Speedup;
}

std::string name_of(Metric metric, Scope scope) {
  if (scope == Scope::Step) return std::string(name_of(kMetrics, metric));
  return fmt::format("{}.{}", name_of(kScopes, scope), name_of(kMetrics, metric));
}

std::string pretty(Metric metric, double value) {
  return is_time(metric) ? pretty(Duration(std::llround(value * 1e9))) : fmt::format("{:.3g}", value);
}

StepMetrics metrics_of(const Timeline& timeline, Scope scope) {
  if (scope == Scope::Step) return step_metrics(timeline);
  Timeline part{timeline.source, timeline.plan, timeline.rank_count, {}, timeline.later_stages, timeline.stands_for};
  for (const Span& span : timeline.spans) {
    if (belongs(timeline.plan_of(span.rank).operators[span.op.index()], scope)) part.spans.push_back(span);
  }
  return step_metrics(part);
}

double value_of(Metric metric, const StepMetrics& metrics) {
  switch (metric) {
    case Metric::StepTime:
      return seconds(metrics.step_time);
    case Metric::Compute:
      return seconds(metrics.compute);
    case Metric::Communication:
      return seconds(metrics.communication);
    case Metric::Exposed:
      return seconds(metrics.exposed);
    case Metric::AllToAll:
      return seconds(metrics.all_to_all);
    case Metric::ExposedAllToAll:
      return seconds(metrics.exposed_all_to_all);
    case Metric::Overlap:
      return metrics.overlap;
    case Metric::CommunicationShare:
      return metrics.communication_share;
    case Metric::Speedup:
      break;
  }
  ASSERT(false, "a speedup needs two timelines");
  return 0;
}

}  // namespace moecast
