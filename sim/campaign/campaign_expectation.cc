#include "sim/campaign/campaign_expectation.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "base/nearest.h"
#include "base/statistics.h"

namespace moecast {

namespace {

double share(const CampaignOutcome& outcome, TimeCause cause) {
  return seconds(outcome.of(cause)) / std::max(1e-9, seconds(outcome.wall));
}

using O = CampaignOutcome;

double checkpoint_count(const O& o) { return static_cast<double>(std::max<std::int64_t>(1, o.checkpoints)); }
double step_seconds(const O& o) {
  return seconds(o.of(TimeCause::Useful)) / static_cast<double>(std::max<std::int64_t>(1, o.useful_steps));
}
double stall_seconds(const O& o) { return seconds(o.of(TimeCause::Stall)) / checkpoint_count(o); }

constexpr std::array kMetrics = {
    CampaignMetric{"goodput", [](const O& o) { return o.goodput(); }},
    CampaignMetric{"running_share", [](const O& o) { return o.running_share(); }},
    CampaignMetric{"failures", [](const O& o) { return static_cast<double>(o.failures); }},
    CampaignMetric{"interruptions", [](const O& o) { return static_cast<double>(o.interruptions); }},
    CampaignMetric{
        "mtbf_hours",
        [](const O& o) { return seconds(o.wall) / 3600 / static_cast<double>(std::max<std::int64_t>(1, o.failures)); }},
    CampaignMetric{"wall_hours", [](const O& o) { return seconds(o.wall) / 3600; }},
    CampaignMetric{"plt", [](const O& o) { return o.plt; }},
    CampaignMetric{"stall_share", [](const O& o) { return share(o, TimeCause::Stall); }},
    CampaignMetric{"recomputation_share", [](const O& o) { return share(o, TimeCause::Recomputation); }},
    CampaignMetric{"checkpoint_stall_seconds", stall_seconds},
    CampaignMetric{"checkpoint_step_seconds", [](const O& o) { return step_seconds(o) + stall_seconds(o); }},
    CampaignMetric{"checkpoint_gigabytes",
                   [](const O& o) {
                     return 1e-9 * o.storage_bytes /
                            static_cast<double>(std::max<std::int64_t>(1, o.storage_checkpoints));
                   }},
    CampaignMetric{"snapshot_experts", [](const O& o) { return static_cast<double>(o.experts.snapshot); }},
    CampaignMetric{"persist_experts", [](const O& o) { return static_cast<double>(o.experts.persist); }},
};

const EnumNames<CampaignExpectation::Kind> kBounds = {{"at_least", CampaignExpectation::Kind::AtLeast},
                                                      {"at_most", CampaignExpectation::Kind::AtMost}};

const CampaignMetric* find_metric(std::string_view name) {
  const auto found =
      std::find_if(kMetrics.begin(), kMetrics.end(), [&](const CampaignMetric& metric) { return metric.name == name; });
  return found == kMetrics.end() ? nullptr : &*found;
}

/// "10 %" as 0.1.
double read_tolerance(JsonReader& reader) {
  const std::string text = reader.text("tolerance");
  double percent = 0;
  const auto [rest, code] = std::from_chars(text.data(), text.data() + text.size(), percent);
  const std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  if (code == std::errc() && (unit == " %" || unit == "%") && percent >= 0) return percent / 100;
  reader.problem("tolerance", "bad-unit", "a share such as \"10 %\"", text);
  return 0;
}

CampaignExpectation read_one(JsonReader& reader) {
  CampaignExpectation out;
  out.metric = reader.text("metric");
  if (find_metric(out.metric) == nullptr) {
    std::vector<std::string> names;
    for (const CampaignMetric& metric : kMetrics) names.emplace_back(metric.name);
    reader.problem("metric", "unknown-value", fmt::format("one of {}", fmt::join(names, ", ")), out.metric,
                   nearest_name(out.metric, names));
  }
  out.value = reader.number("value", -1e300, 1e300);
  const int given = static_cast<int>(reader.has("tolerance")) + static_cast<int>(reader.has("bound")) +
                    static_cast<int>(reader.has("within"));
  if (given != 1) {
    reader.problem("", "missing-key", "one of \"tolerance\", \"bound\" and \"within\"",
                   fmt::format("{} of them", given));
  }
  if (reader.has("tolerance")) out.tolerance = read_tolerance(reader);
  if (reader.has("bound")) out.kind = reader.choice("bound", kBounds);
  if (reader.has("within")) {
    (void)reader.choice<bool>("within", {{"interval", true}});
    out.kind = CampaignExpectation::Kind::Interval;
  }
  if (reader.has("relative_to")) out.relative_to = reader.path("relative_to");
  out.source = reader.text("source");
  out.note = reader.text("note", std::string());
  return out;
}

double mean_of(const CampaignMetric& metric, const std::vector<CampaignOutcome>& outcomes) {
  double sum = 0;
  for (const CampaignOutcome& outcome : outcomes) sum += metric.value(outcome);
  return sum / static_cast<double>(outcomes.size());
}

bool passes(const JudgedExpectation& judged) {
  const CampaignExpectation& expectation = judged.expectation;
  switch (expectation.kind) {
    case CampaignExpectation::Kind::AtLeast:
      return judged.ours >= expectation.value;
    case CampaignExpectation::Kind::AtMost:
      return judged.ours <= expectation.value;
    case CampaignExpectation::Kind::Interval:
      return judged.low <= expectation.value && expectation.value <= judged.high;
    case CampaignExpectation::Kind::Tolerance:
      break;
  }
  return std::fabs(judged.ours - expectation.value) <= expectation.tolerance * std::fabs(expectation.value);
}

}  // namespace

std::span<const CampaignMetric> campaign_metrics() { return kMetrics; }

std::vector<CampaignExpectation> read_campaign_expectations(JsonReader& campaign) {
  std::vector<CampaignExpectation> out;
  for (JsonReader& reader : campaign.objects("expect", true)) out.push_back(read_one(reader));
  return out;
}

nlohmann::ordered_json to_json(const CampaignExpectation& expectation) {
  nlohmann::ordered_json json = {{"metric", expectation.metric}, {"value", expectation.value}};
  switch (expectation.kind) {
    case CampaignExpectation::Kind::Tolerance:
      json["tolerance"] = fmt::format("{} %", 100 * expectation.tolerance);
      break;
    case CampaignExpectation::Kind::AtLeast:
    case CampaignExpectation::Kind::AtMost:
      json["bound"] = name_of(kBounds, expectation.kind);
      break;
    case CampaignExpectation::Kind::Interval:
      json["within"] = "interval";
      break;
  }
  if (expectation.relative_to) json["relative_to"] = expectation.relative_to->generic_string();
  json["source"] = expectation.source;
  if (!expectation.note.empty()) json["note"] = expectation.note;
  return json;
}

std::vector<JudgedExpectation> judge(const CampaignScenario& scenario,
                                     const std::vector<CampaignExpectation>& expectations,
                                     const std::vector<CampaignOutcome>& outcomes, const ComparedOutcomes& others) {
  ASSERT(!outcomes.empty(), "nothing to judge");
  std::vector<JudgedExpectation> out;
  for (const CampaignExpectation& expectation : expectations) {
    const CampaignMetric* metric = find_metric(expectation.metric);
    ASSERT(metric != nullptr, "no metric {}", expectation.metric);
    double unit = 1;
    if (expectation.relative_to) {
      const auto other = others.find(*expectation.relative_to);
      ASSERT(other != others.end(), "no outcomes of {}", expectation.relative_to->string());
      unit = mean_of(*metric, other->second);
    }
    std::vector<double> values;
    for (const CampaignOutcome& outcome : outcomes) values.push_back(metric->value(outcome) / unit);
    const double tail = (1 - scenario.confidence) / 2;
    JudgedExpectation judged;
    judged.expectation = expectation;
    judged.ours = mean_interval(values, scenario.confidence).mean;
    judged.low = quantile(values, tail);
    judged.high = quantile(values, 1 - tail);
    judged.pass = passes(judged);
    out.push_back(std::move(judged));
  }
  return out;
}

std::string allowed_text(const JudgedExpectation& judged) {
  switch (judged.expectation.kind) {
    case CampaignExpectation::Kind::AtLeast:
      return "at least";
    case CampaignExpectation::Kind::AtMost:
      return "at most";
    case CampaignExpectation::Kind::Interval:
      return fmt::format("in {:.4g} .. {:.4g}", judged.low, judged.high);
    case CampaignExpectation::Kind::Tolerance:
      break;
  }
  return fmt::format("{:.3g} %", 100 * judged.expectation.tolerance);
}

}  // namespace moecast
