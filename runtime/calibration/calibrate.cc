#include "runtime/calibration/calibrate.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/calibration/findings.h"
#include "runtime/calibration/kernel_bench.h"
#include "runtime/calibration/lane_bench.h"
#include "runtime/calibration/rank_threads.h"
#include "runtime/calibration/step_bench.h"
#include "runtime/comm/byte_exchange.h"
#include "runtime/comm/inproc.h"
#include "runtime/comm/nccl.h"
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

/// For a backend with memory of its own.
std::unique_ptr<Communicator> device_communicator(const CalibrationOptions& options, Communicator& host,
                                                  Backend& backend) {
  return options.nccl == nullptr ? make_staged_communicator(host, backend)
                                 : make_nccl_communicator(*options.nccl, host, backend, {}, "calibration");
}

Groups groups_on_device(const CalibrationOptions& options, const Groups& host, Backend& backend) {
  return options.nccl == nullptr ? stage(host, backend) : make_nccl_groups(*options.nccl, host, backend, {});
}

Status check(const CalibrationOptions& options) {
  const auto bad = [](std::string message) { return Error{ErrorKind::BadInput, "calibrate", std::move(message)}; };
  if (options.ranks < 1 || options.ranks > 1024) return bad(fmt::format("{} ranks: expected 1..1024", options.ranks));
  if (options.budget.count() <= 0) return bad("expected a budget above zero");
  if (options.pacing && options.pacing->bandwidth.value() <= 0) return bad("a paced link needs a bandwidth above zero");
  return {};
}

/// How one rank talks to the others.
struct RankEnds {
  std::unique_ptr<Communicator> control;  // meetings and decisions, never paced
  std::unique_ptr<Communicator> data;     // the link that is measured
  Groups groups;                          // of the reference step

  void abort(const Error& error) const {
    control->abort(error);
    data->abort(error);
    groups.abort(error);
  }
};

LinkOptions measured_link(const CalibrationOptions& options) { return {options.pacing, std::chrono::seconds(60)}; }

/// All ranks of this process.
std::vector<RankEnds> thread_ends(const CalibrationOptions& options, const ParallelLayout& layout) {
  const int size = static_cast<int>(options.ranks);
  auto control = make_inproc_group(size, {}, "calibration control");
  auto data = make_inproc_group(size, measured_link(options), "calibration");
  std::vector<Groups> groups = make_inproc_groups(layout, measured_link(options));
  std::vector<RankEnds> ends;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    ends.push_back({std::move(control[i]), std::move(data[i]), std::move(groups[i])});
  }
  return ends;
}

/// The process's own rank.
Result<RankEnds> process_ends(ProcessWorld& world, const CalibrationOptions& options, const ParallelLayout& layout) {
  auto control = world.make_world_group("calibration control", {});
  if (!control.ok()) return control.error();
  auto data = world.make_world_group("calibration", measured_link(options));
  if (!data.ok()) return data.error();
  auto groups = world.make_groups(layout, measured_link(options));
  if (!groups.ok()) return groups.error();
  return RankEnds{std::move(control).value(), std::move(data).value(), std::move(groups).value()};
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
  }

  /// All ranks as threads.
  [[nodiscard]] Status run() {
    const std::vector<RankEnds> ends = thread_ends(options_, reference_.layout);
    return run_ranks(
        static_cast<int>(options_.ranks),
        [&](int rank) { return run_rank(rank, ends[static_cast<std::size_t>(rank)]); },
        [&](const Error& error) { ends.front().abort(error); });
  }
  /// One rank of several processes; afterwards it knows what all have found.
  [[nodiscard]] Status run(ProcessWorld& world);
  [[nodiscard]] const Findings& findings() const { return findings_; }

 private:
  [[nodiscard]] Status run_rank(int rank, const RankEnds& ends);
  [[nodiscard]] Status gather(Communicator& control, int rank);
  [[nodiscard]] std::vector<Work> all_works() const;
  [[nodiscard]] Status bench_lanes(const LaneRank& lanes, RankFindings& findings);
  [[nodiscard]] Status bench_links(const LaneRank& lanes, Communicator& control, RankFindings& findings);
  [[nodiscard]] Result<bool> all_go_on(Communicator& control, bool go_on);
  [[nodiscard]] bool report(double done, std::string_view what) const { return !progress_ || progress_(done, what); }

  const CalibrationOptions& options_;
  const CalibrationProgress& progress_;
  Workload reference_;
  Findings findings_;  // grid and links are the same for all; each rank writes its own part, rank 0 the names
  SteadyClock clock_;
};

Status interrupted() { return Error{ErrorKind::Interrupted, "calibrate", "stopped before its end"}; }

/// Rank 0 decides for all.
Result<bool> Calibration::all_go_on(Communicator& control, bool go_on) {
  const auto answers = control.exchange(std::vector<std::int64_t>(static_cast<std::size_t>(control.size()), go_on));
  if (!answers.ok()) return answers.error();
  return answers.value()[0] != 0;
}

std::vector<Work> Calibration::all_works() const {
  std::vector<Work> works = findings_.grid.fitted;
  works.insert(works.end(), findings_.grid.held_out.begin(), findings_.grid.held_out.end());
  return works;
}

Status Calibration::run(ProcessWorld& world) {
  findings_.processes = true;
  const Result<RankEnds> ends = process_ends(world, options_, reference_.layout);
  if (!ends.ok()) return ends.error();
  Status status = run_rank(world.rank(), *ends);
  if (status.ok()) status = gather(*ends->control, world.rank());
  if (!status.ok()) ends->abort(status.error());
  return status;
}

Status Calibration::gather(Communicator& control, int rank) {
  const auto all = exchange_bytes(control, to_bytes(findings_.ranks[static_cast<std::size_t>(rank)]));
  if (!all.ok()) return all.error();
  const std::vector<Work> works = all_works();
  for (std::size_t each = 0; each < all->size(); ++each) {
    std::optional<RankFindings> theirs = findings_of((*all)[each], works);
    if (!theirs) {
      return Error{ErrorKind::RunFailed, fmt::format("rank {}", each), "is not the same program, or has other options"};
    }
    findings_.ranks[each] = std::move(*theirs);
  }
  return {};
}

Status Calibration::run_rank(int rank, const RankEnds& ends) {
  const auto index = static_cast<std::size_t>(rank);
  auto backend = backend_for(options_, rank);
  if (!backend.ok()) return backend.error();
  const bool on_device = backend.value()->asynchronous();
  const auto device_data = on_device ? device_communicator(options_, *ends.data, *backend.value()) : nullptr;
  const Groups device_groups = on_device ? groups_on_device(options_, ends.groups, *backend.value()) : Groups();
  const LaneRank lanes{*backend.value(), on_device ? *device_data : *ends.data, clock_, options_.dtype};
  if (rank == 0 || findings_.processes) {
    findings_.backend = backend.value()->name();
    findings_.device = backend.value()->device_name();
    findings_.link = lanes.data.name() == "staged" ? "staged " + ends.data->name() : lanes.data.name();
  }
  RankFindings& findings = findings_.ranks[index];
  Communicator& control = *ends.control;
  RETURN_IF_ERROR(bench_lanes(lanes, findings));
  if (!findings_.links.empty()) RETURN_IF_ERROR(bench_links(lanes, control, findings));
  const auto steps = std::clamp(static_cast<std::int64_t>(seconds(options_.budget)), std::int64_t{2}, std::int64_t{40});
  auto step = bench_step(reference_, findings_.reference, Rank(rank), *backend.value(),
                         on_device ? device_groups : ends.groups, steps);
  if (!step.ok()) return step.error();
  findings.step = std::move(step).value();
  const std::vector<Work> works = all_works();
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
  return lanes.data.check();
}

Status Calibration::bench_lanes(const LaneRank& lanes, RankFindings& findings) {
  const auto overhead = bench_operator_overhead(lanes);
  if (!overhead.ok()) return overhead.error();
  findings.overheads.push_back(seconds(*overhead));
  const int steps = static_cast<int>(std::clamp(seconds(options_.budget), 3.0, 15.0));
  if (lanes.backend.asynchronous()) {
    const auto copy = bench_beside_copy(lanes, Bytes(std::int64_t{1} << (options_.accelerator ? 26 : 20)), steps);
    if (!copy.ok()) return copy.error();
    findings.copy_rates.push_back(copy->rate.value());
    findings.compute_beside_copy.push_back(copy->compute);
  }
  if (lanes.data.size() == 1) return {};
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

/// `run` measures.
Result<CalibrationResult> calibrate_by(const CalibrationOptions& options, Log& log, const CalibrationProgress& progress,
                                       const std::function<Status(Calibration&)>& run) {
  RETURN_IF_ERROR(check(options));
  // A call may take about 1/2500 of the time at 100 GFLOP/s (GPU: TFLOP/s); larger shapes continue the rates of smaller
  // ones. The least that has every kernel in it is 2e7.
  const double max_cost = std::max(2e7, (options.accelerator ? 4e10 : 4e7) * seconds(options.budget));
  auto grid = calibration_grid(bytes_per_element(options.dtype), max_cost, options.accelerator);
  if (!grid.ok()) return grid.error();
  log.info("calibrating {} ranks: {} kernels and {} apart", options.ranks, grid->fitted.size(), grid->held_out.size());
  Calibration calibration(options, std::move(grid).value(), progress);
  RETURN_IF_ERROR(run(calibration));
  CalibrationResult result = summarize(calibration.findings(), options);
  log.info("inside a training step: products x {:.2f}, memory-bound kernels x {:.2f}, collectives x {:.2f}",
           result.in_step.products, result.in_step.memory, result.in_step.communication);
  log.info("calibrated: median error {:.1f} % fitted, {:.1f} % on {} held-out shapes",
           100 * result.profile.fit->fit_median_error, 100 * result.profile.fit->held_out_median_error,
           result.profile.fit->held_out_count);
  return result;
}

}  // namespace

Result<CalibrationResult> calibrate_with_samples(const CalibrationOptions& options, Log& log,
                                                 const CalibrationProgress& progress) {
  return calibrate_by(options, log, progress, [](Calibration& calibration) { return calibration.run(); });
}

Result<HardwareProfile> calibrate_as_process(ProcessWorld& world, const CalibrationOptions& options, Log& log,
                                             const CalibrationProgress& progress) {
  ASSERT(options.ranks == world.size(), "{} ranks in {} processes", options.ranks, world.size());
  auto result = calibrate_by(options, log, progress, [&](Calibration& calibration) { return calibration.run(world); });
  if (!result.ok()) return result.error();
  return std::move(result.value().profile);
}

Result<HardwareProfile> calibrate(const CalibrationOptions& options, Log& log, const CalibrationProgress& progress) {
  auto result = calibrate_with_samples(options, log, progress);
  if (!result.ok()) return result.error();
  return std::move(result.value().profile);
}

}  // namespace moecast
