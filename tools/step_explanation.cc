#include "tools/step_explanation.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "models/metrics.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

std::string_view to_text(WaitedFor what) {
  switch (what) {
    case WaitedFor::Nothing:
      return "nothing";
    case WaitedFor::Lane:
      return "its lane";
    case WaitedFor::Dependency:
      return "its input";
    case WaitedFor::Message:
      return "a message";
  }
  return "";
}

/// "its input 58, its lane 3, late ranks 2": the most frequent first.
std::string waits_text(const PathShare& share) {
  std::vector<std::pair<std::int64_t, std::string>> waits;
  for (std::size_t i = 0; i < kWaitedForCount; ++i) {
    if (share.waited_for[i] > 0) waits.emplace_back(share.waited_for[i], to_text(static_cast<WaitedFor>(i)));
  }
  if (share.late_peers > 0) waits.emplace_back(share.late_peers, "late ranks");
  std::stable_sort(waits.begin(), waits.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> texts;
  for (const auto& [count, what] : waits) texts.push_back(fmt::format("{} {}", what, count));
  return fmt::format("{}", fmt::join(texts, ", "));
}

double percent(Duration part, Duration whole) {
  return whole.count() == 0 ? 0 : 100 * static_cast<double>(part.count()) / static_cast<double>(whole.count());
}

}  // namespace

std::string to_text(const StepExplanation& explanation, const Timeline& timeline, const Style& style) {
  Duration whole{};
  for (const PathStep& step : explanation.path) whole += step.time;
  Table table({{"critical path"},
               {"operators", Align::Right},
               {"time", Align::Right},
               {"share", Align::Right},
               {"disturbed", Align::Right},
               {"each waited last for"}});
  for (const PathShare& share : path_shares(explanation.path, timeline)) {
    table.row({fmt::format("{} {}", to_text(share.kind), to_text(share.phase)), std::to_string(share.count),
               pretty(share.time), fmt::format("{:.1f} %", percent(share.time, whole)),
               pretty(std::max(Duration(0), share.time - share.alone)), waits_text(share)});
  }
  const Duration step = step_metrics(timeline).step_time;
  Table helps({{"what would help"}, {"step", Align::Right}, {"", Align::Right}});
  for (const WhatIf& change : explanation.helps) {
    helps.row(
        {change.change, pretty(change.step_time), fmt::format("-{:.1f} %", percent(step - change.step_time, step))});
  }
  return fmt::format("\n{}\n{}", table.text(style, "  "), helps.text(style, "  "));
}

Json to_json(const StepExplanation& explanation, const Timeline& timeline) {
  Json path = Json::array();
  for (const PathStep& step : explanation.path) {
    const Operator& op = timeline.plan_of_stage(step.stage).operators[step.op.index()];
    path.push_back({{"operator", op.name()},
                    {"micro_batch", op.micro_batch},
                    {"rank", step.rank.value()},
                    {"time_ns", step.time.count()},
                    {"alone_ns", step.alone.count()},
                    {"waited_for", to_text(step.waited_for)},
                    {"late_peer", step.late_peer}});
  }
  Json helps = Json::array();
  for (const WhatIf& change : explanation.helps) {
    helps.push_back({{"change", change.change}, {"step_time_ns", change.step_time.count()}});
  }
  return {{"critical_path", std::move(path)}, {"what_helps", std::move(helps)}};
}

}  // namespace moecast
