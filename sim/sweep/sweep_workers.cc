#include "sim/sweep/sweep_workers.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>

#include <fmt/format.h>

#include "sim/campaign/campaign.h"
#include "sim/parallel.h"

namespace moecast {
namespace {

Result<std::vector<double>> values_of(const SweepScenario& scenario, std::int64_t replicas, unsigned threads,
                                      const std::function<bool()>& stop) {
  if (const auto* step = std::get_if<Scenario>(&scenario)) {
    const Result<Timeline> timeline = simulate(*step);
    if (!timeline.ok()) return timeline.error();
    return step_row(*step, *timeline);
  }
  CampaignScenario campaign = std::get<CampaignScenario>(scenario);
  campaign.replicas = replicas;
  const std::vector<CampaignOutcome> outcomes = run_replicas(campaign, threads, stop);
  if (std::ssize(outcomes) < replicas) return Error{ErrorKind::Interrupted, "sweep", "interrupted"};
  return campaign_row(campaign, outcomes);
}

/// One line that says what is wrong with a point.
std::string short_text(const Error& error) {
  return error.problems.empty() ? error.text() : error.problems.front().text();
}

}  // namespace

Result<SweepRow> evaluate_point(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                const SweepRequest& request, unsigned threads, const std::function<bool()>& stop) {
  const SweepPoint& point = points[static_cast<std::size_t>(request.point)];
  const Result<SweepScenario> scenario = point_scenario(spec, point, request.point);
  Result<std::vector<double>> values = scenario.ok() ? values_of(*scenario, request.replicas, threads, stop)
                                                     : Result<std::vector<double>>(scenario.error());
  if (values.ok()) return SweepRow{request, std::move(values).value(), {}};
  Error error = values.error();
  if (error.kind == ErrorKind::Interrupted) return error;
  if (spec.skip_invalid && error.kind == ErrorKind::BadInput) return SweepRow{request, {}, short_text(error)};
  return at_point(std::move(error), spec, point, request.point);
}

Status SweepThreads::evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                              const std::function<bool()>& stop) {
  std::mutex mutex;
  std::optional<Error> failed;
  std::atomic<bool> over = false;
  // Where there are fewer points than threads, the replicas of a point are shared out.
  const auto inner =
      static_cast<unsigned>(std::max<std::size_t>(1, threads_ / std::max<std::size_t>(1, requests.size())));
  const std::function<bool()> ends = [&] { return over || stop(); };
  for_each_in_parallel(
      requests.size(), threads_,
      [&](std::size_t i) {
        Result<SweepRow> row = evaluate_point(spec_, points_, requests[i], inner, ends);
        const std::scoped_lock lock(mutex);
        if (failed) return;
        const Status status = row.ok() ? take(std::move(row).value()) : Status(row.error());
        if (status.ok()) return;
        failed = status.error();
        over = true;
      },
      ends);
  return failed ? Status(*failed) : Status();
}

}  // namespace moecast
