#include "tools/report_data.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "models/comparison.h"
#include "models/metrics.h"
#include "tools/result_json.h"
#include "tools/revision.h"
#include "tools/sweep_report.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int32_t kShownRanks = 8;

struct StepExtent {
  std::int32_t step = 0;
  Instant start{};
  Instant end{};
  [[nodiscard]] Duration duration() const { return end - start; }
};

/// The step whose duration over all ranks is the (lower) median.
StepExtent median_step(const Timeline& timeline) {
  std::map<std::int32_t, StepExtent> steps;
  for (const Span& span : timeline.spans) {
    const auto [found, is_new] = steps.try_emplace(span.step, StepExtent{span.step, span.start, span.end});
    StepExtent& extent = found->second;
    extent.start = std::min(extent.start, span.start);
    extent.end = std::max(extent.end, span.end);
  }
  std::vector<StepExtent> sorted;
  for (const auto& [step, extent] : steps) sorted.push_back(extent);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const StepExtent& a, const StepExtent& b) { return a.duration() < b.duration(); });
  return sorted.empty() ? StepExtent() : sorted[(sorted.size() - 1) / 2];
}

Json timeline_json(const Timeline& timeline) {
  const StepExtent extent = median_step(timeline);
  Json operators = Json::array();
  std::vector<std::size_t> first;  // by stage: of its operators in the list
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    first.push_back(operators.size());
    for (const Operator& each : timeline.plan_of_stage(stage).operators) {
      operators.push_back({{"name", each.name()}, {"kind", to_text(each.kind)}, {"phase", to_text(each.phase)}});
    }
  }
  Json rank = Json::array(), lane = Json::array(), op = Json::array(), start = Json::array(), end = Json::array();
  for (const Span& span : timeline.spans) {
    if (span.step != extent.step || span.rank.value() >= kShownRanks) continue;
    rank.push_back(span.rank.value());
    lane.push_back(to_text(span.lane));
    op.push_back(first[static_cast<std::size_t>(timeline.stage_of(span.rank))] + span.op.index());
    start.push_back((span.start - extent.start).count());
    end.push_back((span.end - extent.start).count());
  }
  return {{"step", extent.step},
          {"duration_ns", extent.duration().count()},
          {"rank_count", timeline.rank_count},
          {"shown_rank_count", std::min<std::int64_t>(timeline.rank_count, kShownRanks)},
          {"operators", operators},
          {"rank", rank},
          {"lane", lane},
          {"op", op},
          {"start_ns", start},
          {"end_ns", end}};
}

Json run_json(const std::optional<RunResult>& run) {
  if (!run) return nullptr;
  const RunInfo& info = run->recorded.info;
  return {{"source", run->recorded.timeline.source},
          {"device", info.device},
          {"paced", info.paced},
          {"seed", std::to_string(info.seed)},
          {"revision", info.revision},
          {"metrics", to_json(step_metrics(run->recorded.timeline))},
          {"timeline", timeline_json(run->recorded.timeline)}};
}

/// "compute", or "compute, comm" where a kind has operators on both.
std::string lanes_of(const Timeline& timeline, OpKind kind, Phase phase) {
  std::vector<Lane> lanes;
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    for (const Operator& op : timeline.plan_of_stage(stage).operators) {
      if (op.kind != kind || op.phase != phase) continue;
      if (std::find(lanes.begin(), lanes.end(), op.lane) == lanes.end()) lanes.push_back(op.lane);
    }
  }
  std::string out;
  for (const Lane lane : lanes) out += (out.empty() ? "" : ", ") + std::string(to_text(lane));
  return out;
}

Json operator_json(const Timeline& timeline, OpKind kind, Phase phase, Json measured, Json predicted) {
  return {{"kind", to_text(kind)},
          {"phase", to_text(phase)},
          {"lane", lanes_of(timeline, kind, phase)},
          {"measured_ns", std::move(measured)},
          {"predicted_ns", std::move(predicted)}};
}

/// Time by kind of operator of the only run of a variant.
Json single_operators(const RunResult& run) {
  const Timeline& timeline = run.recorded.timeline;
  Json out = Json::array();
  for (const OperatorMetrics& each : operator_metrics(timeline)) {
    const Json time = each.total_per_step.count();
    out.push_back(run.measured() ? operator_json(timeline, each.kind, each.phase, time, nullptr)
                                 : operator_json(timeline, each.kind, each.phase, nullptr, time));
  }
  return out;
}

Json variant_json(const ReportVariant& variant) {
  Json out = {{"name", variant.name},
              {"measured", run_json(variant.measured)},
              {"predicted", run_json(variant.predicted)},
              {"step_time_error", nullptr}};
  if (variant.measured && variant.predicted) {
    const Timeline& measured = variant.measured->recorded.timeline;
    const Comparison comparison = compare(measured, variant.predicted->recorded.timeline);
    out["step_time_error"] = comparison.step_time_error;
    out["operators"] = Json::array();
    for (const OperatorComparison& each : comparison.operators) {
      out["operators"].push_back(
          operator_json(measured, each.kind, each.phase, each.measured.count(), each.predicted.count()));
    }
  } else {
    out["operators"] = single_operators(variant.measured ? *variant.measured : *variant.predicted);
  }
  if (variant.measured && variant.measured->curve) {
    out["loss"] = variant.measured->curve->loss;
    out["unigram_entropy"] = variant.measured->curve->unigram_entropy;
  }
  return out;
}

Json verdict_json(const ReportContent& content) {
  std::vector<ValidatedPair> pairs;
  for (const ReportVariant& variant : content.variants) {
    if (!variant.measured || !variant.predicted) continue;
    pairs.push_back({variant.name, compare(variant.measured->recorded.timeline, variant.predicted->recorded.timeline)});
  }
  if (pairs.empty()) return nullptr;
  const Verdict verdict = judge(pairs, content.tolerance.value_or(0));
  return {{"pair_count", pairs.size()},
          {"median_error", verdict.median_error},
          {"order_right", verdict.order_right()},
          {"tolerance", content.tolerance ? Json(*content.tolerance) : Json()},
          {"pass", content.tolerance ? Json(verdict.pass()) : Json()}};
}

Json profile_json(const std::optional<HardwareProfile>& profile) {
  if (!profile) return nullptr;
  Json rows = Json::array();
  const auto row = [&](const char* name, std::string text) { rows.push_back(Json::array({name, std::move(text)})); };
  row("name", profile->name);
  if (!profile->description.empty()) row("description", profile->description);
  row("device of a rank", fmt::format("{}: at most {}, memory {}", profile->device.name, pretty(profile->device.peak),
                                      pretty(profile->device.memory_rate)));
  const LinkProfile& link = profile->node.all_to_all;
  row("link, all-to-all", fmt::format("{} + bytes / {}", pretty(link.latency), pretty(link.bandwidth)));
  row("compute beside communication",
      fmt::format("{:.2f} times as long", profile->interference.compute_beside_communication));
  if (profile->fit) {
    row("error of the fit",
        fmt::format("{} (median over the shapes that were used)", percent(profile->fit->fit_median_error)));
    row("held-out error", fmt::format("{} (median over {} shapes that the fit has not seen)",
                                      percent(profile->fit->held_out_median_error), profile->fit->held_out_count));
  }
  return {{"rows", rows}};
}

}  // namespace

Json report_data(const ReportContent& content) {
  Json variants = Json::array();
  for (const ReportVariant& variant : content.variants) variants.push_back(variant_json(variant));
  return {{"schema", "moecast.report/1"},
          {"version", version()},
          {"revision", revision()},
          {"title", content.title},
          {"verdict", verdict_json(content)},
          {"variants", variants},
          {"sweep", content.sweep ? sweep_report_json(*content.sweep) : Json()},
          {"profile", profile_json(content.profile)}};
}

}  // namespace moecast
