#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/statistics.h"
#include "tools/campaign_comparison.h"
#include "tools/command.h"
#include "tools/result_json.h"
#include "tools/revision.h"
#include "tools/run_result.h"
#include "tools/step_summary.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

/// The measured or the simulated runs of one name: one configuration with several seeds, as a rule.
struct Variant {
  std::string name;
  bool measured = false;
  std::vector<double> validation_loss;  // of the measured ones
  std::vector<StepMetrics> metrics, bounds;
};

/// In the order in which their names first appear.
Result<std::vector<Variant>> load_variants(const std::vector<std::string>& paths) {
  std::vector<Variant> variants;
  std::map<std::pair<std::string, bool>, std::size_t> places;
  for (const std::string& path : paths) {
    const Result<RunResult> run = load_run(path);
    if (!run.ok()) return run.error();
    const auto [place, is_new] = places.try_emplace({run->name(), run->measured()}, variants.size());
    if (is_new) variants.push_back({run->name(), run->measured(), {}, {}, {}});
    Variant& variant = variants[place->second];
    if (run->curve) variant.validation_loss.push_back(run->curve->validation_loss);
    variant.metrics.push_back(step_metrics(run->recorded.timeline));
    variant.bounds.push_back(bound_metrics(run->recorded.timeline));
  }
  return variants;
}

template <typename Value>
double median_of(const std::vector<StepMetrics>& metrics, Value value) {
  std::vector<double> values;
  for (const StepMetrics& each : metrics) values.push_back(value(each));
  return median(values);
}

Duration median_step(const Variant& variant) {
  return duration_from_seconds(
      median_of(variant.metrics, [](const StepMetrics& each) { return seconds(each.step_time); }));
}

/// "2.418", and of several runs their mean and deviation: "2.418 +- 0.004".
std::string loss_text(const Variant& variant) {
  if (variant.validation_loss.empty()) return "-";
  RunningMoments moments;
  for (const double loss : variant.validation_loss) moments.add(loss);
  if (moments.count() == 1) return fmt::format("{:.3f}", moments.mean());
  return fmt::format("{:.3f} +- {:.3f}", moments.mean(), moments.deviation());
}

std::string percent(double fraction) { return fmt::format("{:.0f} %", 100 * fraction); }

std::string variants_table(const std::vector<Variant>& variants, const Style& style) {
  Table table({{"variant"},
               {""},
               {"runs", Align::Right},
               {"validation loss", Align::Right},
               {"step", Align::Right},
               {"speed-up", Align::Right},
               {"all-to-all of MoE time", Align::Right},
               {"exposed", Align::Right},
               {"by the plan", Align::Right}});
  for (const Variant& variant : variants) {
    table.row({Cell(variant.name, Tone::Strong), variant.measured ? "measured" : "simulated",
               fmt::format("{}", variant.metrics.size()), loss_text(variant), pretty(median_step(variant)),
               fmt::format("{:.2f}", seconds(median_step(variants.front())) / seconds(median_step(variant))),
               percent(median_of(variant.metrics, [](const StepMetrics& each) { return each.communication_share; })),
               percent(median_of(variant.metrics, exposed_all_to_all_share)),
               percent(median_of(variant.bounds, exposed_all_to_all_share))});
  }
  return table.text(style);
}

Json comparison_json(const std::vector<Variant>& variants) {
  Json list = Json::array();
  for (const Variant& variant : variants) {
    Json runs = Json::array();
    for (std::size_t i = 0; i < variant.metrics.size(); ++i) {
      runs.push_back({{"step_metrics", to_json(variant.metrics[i])}, {"bound_metrics", to_json(variant.bounds[i])}});
    }
    list.push_back({{"name", variant.name},
                    {"measured", variant.measured},
                    {"validation_loss", variant.validation_loss},
                    {"runs", runs}});
  }
  return {{"schema", "moecast.compare/1"}, {"revision", revision()}, {"variants", list}};
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  if (is_campaign_result(context.arguments.positionals().front())) return compare_campaigns(context);
  const Result<std::vector<Variant>> variants = load_variants(context.arguments.positionals());
  if (!variants.ok()) return variants.error();
  context.print(variants_table(*variants, context.style));
  return context.finish(comparison_json(*variants));
}

}  // namespace

Command compare_command() {
  return {
      {.name = "compare",
       .summary = "one table of several runs: loss, step time, communication and how much of it is exposed",
       .details = "Measured runs of one name, say with several seeds, make one row (so do simulated ones): mean "
                  "and deviation of the validation\n"
                  "loss, medians of the rest. Speed-up is relative to the first row. \"by the plan\" is the least\n"
                  "share of the all-to-all that the plan exposes with the operator times of the run.\n"
                  "Of campaigns: interval, stall of a checkpoint, goodput, lost tokens, bytes; stalls relative to "
                  "the first.",
       .positionals = {{.name = "RUN",
                        .help = "result folders or timeline.json files of train and simulate, or folders of campaigns",
                        .at_least = 1,
                        .at_most = 10'000}},
       .options = with_result_file({}),
       .examples = {"moecast compare out/quickstart/train/*", "moecast compare out/campaign/*"}},
      run};
}

}  // namespace moecast
