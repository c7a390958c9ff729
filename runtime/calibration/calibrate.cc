#include "runtime/calibration/calibrate.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/calibration/findings.h"
#include "runtime/calibration/kernel_bench.h"
#include "runtime/calibration/lane_bench.h"
#include "runtime/calibration/rank_threads.h"
#include "runtime/calibration/step_bench.h"
#include "runtime/comm/inproc.h"
#include "runtime/comm/staged.h"
#include "runtime/cpu/cpu_backend.h"

namespace moecast {
namespace {

std::vector<LinkPlan> link_plans(bool accelerator) {
  std::vector<LinkPlan> plans;
  const std::int64_t largest = std::int64_t{1} << (accelerator ? 26 : 22);
  for (const Collective collective : {Collective::AllToAll, Collective::AllReduce}) {
    for (std::int64_t size = 4096; size <= largest; size *= 4) {
      plans.push_back({{collective, Group::World, Bytes(size)}, false});
    }
    for (const std::int64_t size : {24'576, 327'680, 1'638'400}) {
      plans.push_back({{collective, Group::World, Bytes(size)}, true});
    }
  }
  return plans;
}

Result<std::unique_ptr<Backend>> backend_for(const CalibrationOptions& options, int rank) {
  if (options.make_backend) return options.make_backend(rank);
  return make_cpu_backend();
}

Status check(const CalibrationOptions& options) {
  const auto bad = [](std::string message) { return Error{ErrorKind::BadInput, "calibrate", std::move(message)}; };
  if (options.ranks < 1 || options.ranks > 1024) return bad(fmt::format("{} ranks: expected 1..1024", options.ranks));
  if (options.budget.count() <= 0) return bad("expected a budget above zero");
  if (options.pacing && options.pacing->bandwidth.value() <= 0) return bad("a paced link needs a bandwidth above zero");
  return {};
}

/// One calibration: what all ranks share, and the benches in order.
class Calibration {
 public:
  Calibration(const CalibrationOptions& options, WorkGrid grid, const CalibrationProgress& progress)
      : options_(options),
        progress_(progress),
        reference_(reference_workload(options.ranks, options.dtype, options.accelerator)) {
    findings_.grid = std::move(grid);
    findings_.reference = build_step_plan(request_of(reference_)).value();
    if (options.ranks > 1) findings_.links = link_plans(options.accelerator);
    findings_.ranks.resize(static_cast<std::size_t>(options.ranks));
    const int size = static_cast<int>(options.ranks);
    control_ = make_inproc_group(size, {}, "calibration control");
    data_ = make_inproc_group(size, {options.pacing, std::chrono::seconds(60)}, "calibration");
    groups_ = make_inproc_groups(reference_.layout, {options.pacing, std::chrono::seconds(60)});
  }

  [[nodiscard]] Status run() {
    const auto release = [this](const Error& error) {
      control_[0]->abort(error);
      data_[0]->abort(error);
      groups_[0].abort(error);
    };
    return run_ranks(
        static_cast<int>(options_.ranks), [this](int rank) { return run_rank(rank); }, release);
  }
  [[nodiscard]] const Findings& findings() const { return findings_; }

 private:
  [[nodiscard]] Status run_rank(int rank);
  [[nodiscard]] Status bench_lanes(const LaneRank& lanes, RankFindings& findings);
  [[nodiscard]] Status bench_links(const LaneRank& lanes, Communicator& control, RankFindings& findings);
  [[nodiscard]] Result<bool> all_go_on(Communicator& control, bool go_on);
  [[nodiscard]] bool report(double done, std::string_view what) const { return !progress_ || progress_(done, what); }

  const CalibrationOptions& options_;
  const CalibrationProgress& progress_;
  Workload reference_;
  Findings findings_;  // grid and links are the same for all; each rank writes its own part, rank 0 the names
  std::vector<std::unique_ptr<Communicator>> control_, data_;
  std::vector<Groups> groups_;  // of the reference step
  SteadyClock clock_;
};

Status interrupted() { return Error{ErrorKind::Interrupted, "calibrate", "stopped before its end"}; }

/// Rank 0 decides for all.
Result<bool> Calibration::all_go_on(Communicator& control, bool go_on) {
  const auto answers = control.exchange(std::vector<std::int64_t>(static_cast<std::size_t>(control.size()), go_on));
  if (!answers.ok()) return answers.error();
  return answers.value()[0] != 0;
}

Status Calibration::run_rank(int rank) {
  const auto index = static_cast<std::size_t>(rank);
  auto backend = backend_for(options_, rank);
  if (!backend.ok()) return backend.error();
  if (rank == 0) {
    findings_.backend = backend.value()->name();
    findings_.device = backend.value()->device_name();
    findings_.link = backend.value()->asynchronous() ? "staged inproc" : "inproc";
  }
  RankFindings& findings = findings_.ranks[index];
  Communicator& control = *control_[index];
  const bool stages = backend.value()->asynchronous();
  const auto staged = stages ? make_staged_communicator(*data_[index], *backend.value()) : nullptr;
  const Groups staged_groups = stages ? stage(groups_[index], *backend.value()) : Groups();
  const LaneRank lanes{*backend.value(), stages ? *staged : *data_[index], clock_, options_.dtype};
  RETURN_IF_ERROR(bench_lanes(lanes, findings));
  if (!findings_.links.empty()) RETURN_IF_ERROR(bench_links(lanes, control, findings));
  const auto steps = std::clamp(static_cast<std::int64_t>(seconds(options_.budget)), std::int64_t{2}, std::int64_t{40});
  auto step = bench_step(reference_, findings_.reference, Rank(rank), *backend.value(),
                         stages ? staged_groups : groups_[index], steps);
  if (!step.ok()) return step.error();
  findings.step = std::move(step).value();
  std::vector<Work> works = findings_.grid.fitted;
  works.insert(works.end(), findings_.grid.held_out.begin(), findings_.grid.held_out.end());
  bool stopped = false;
  const auto on_progress = [&](double done) {
    stopped = !report(0.2 + 0.8 * done, "kernels");
    return !stopped;
  };
  const BenchRank bench{*backend.value(), control, clock_, options_.dtype, options_.working_set};
  auto times = bench_kernels(bench, works, Instant{} + options_.budget, on_progress);
  if (!times.ok()) return times.error();
  if (stopped) return interrupted();
  findings.kernels = std::move(times).value();
  return {};
}

Status Calibration::bench_lanes(const LaneRank& lanes, RankFindings& findings) {
  const auto overhead = bench_operator_overhead(lanes);
  if (!overhead.ok()) return overhead.error();
  findings.overheads.push_back(seconds(*overhead));
  if (lanes.data.size() == 1) return {};
  const int steps = static_cast<int>(std::clamp(seconds(options_.budget), 3.0, 15.0));
  for (const std::int64_t buffer : {std::int64_t{1} << 17, std::int64_t{1} << 18, std::int64_t{1} << 19}) {
    const auto ratios = bench_interference(lanes, Bytes(buffer), steps);
    if (!ratios.ok()) return ratios.error();
    findings.compute_beside.push_back(ratios->compute);
    findings.communication_beside.push_back(ratios->communication);
  }
  return {};
}

/// Rounds over all sizes until a fifth of the budget is gone, at least one.
Status Calibration::bench_links(const LaneRank& lanes, Communicator& control, RankFindings& findings) {
  findings.links.resize(findings_.links.size());
  const Instant deadline = Instant{} + options_.budget / 5;
  for (int round = 0; round < 5; ++round) {
    for (std::size_t i = 0; i < findings_.links.size(); ++i) {
      const double done = std::min(0.2, 0.2 * seconds(clock_.now() - Instant{}) / seconds(options_.budget / 5));
      const bool wanted = control.rank() != 0 || report(done, "link");
      const auto go_on = all_go_on(control, wanted && (round == 0 || clock_.now() < deadline));
      if (!go_on.ok()) return go_on.error();
      if (!*go_on) return wanted ? Status() : interrupted();
      const auto time = bench_collective(lanes, findings_.links[i].communication, 4);
      if (!time.ok()) return time.error();
      findings.links[i].push_back(seconds(*time));
    }
  }
  return {};
}

}  // namespace

Result<CalibrationResult> calibrate_with_samples(const CalibrationOptions& options, Log& log,
                                                 const CalibrationProgress& progress) {
  RETURN_IF_ERROR(check(options));
  // A call may take about 1/2500 of the time at 100 GFLOP/s (GPU: TFLOP/s); larger shapes continue the rates of smaller
  // ones. The least that has every kernel in it is 2e7.
  const double max_cost = std::max(2e7, (options.accelerator ? 4e10 : 4e7) * seconds(options.budget));
  auto grid = calibration_grid(bytes_per_element(options.dtype), max_cost, options.accelerator);
  if (!grid.ok()) return grid.error();
  log.info("calibrating {} ranks: {} kernels and {} apart", options.ranks, grid->fitted.size(), grid->held_out.size());
  Calibration calibration(options, std::move(grid).value(), progress);
  RETURN_IF_ERROR(calibration.run());
  CalibrationResult result = summarize(calibration.findings(), options);
  log.info("inside a training step: products x {:.2f}, memory-bound kernels x {:.2f}, collectives x {:.2f}",
           result.in_step.products, result.in_step.memory, result.in_step.communication);
  log.info("calibrated: median error {:.1f} % fitted, {:.1f} % on {} held-out shapes",
           100 * result.profile.fit->fit_median_error, 100 * result.profile.fit->held_out_median_error,
           result.profile.fit->held_out_count);
  return result;
}

Result<HardwareProfile> calibrate(const CalibrationOptions& options, Log& log, const CalibrationProgress& progress) {
  auto result = calibrate_with_samples(options, log, progress);
  if (!result.ok()) return result.error();
  return std::move(result.value().profile);
}

}  // namespace moecast
