#include "runtime/calibration/calibrate.h"

#include <algorithm>
#include <mutex>

#include <fmt/format.h>
#include <unistd.h>

#include "base/statistics.h"
#include "runtime/calibration/kernel_bench.h"
#include "runtime/calibration/lane_bench.h"
#include "runtime/calibration/rank_threads.h"
#include "runtime/calibration/work_grid.h"
#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"

namespace moecast {
namespace {

/// What one rank has seen; of all ranks, medians are taken.
struct RankFindings {
  std::vector<KernelTimes> kernels;
  std::vector<std::vector<double>> links;  // seconds, by LinkPlan
  std::vector<double> overheads;           // seconds
  std::vector<double> compute_beside, communication_beside;
};

struct LinkPlan {
  Communication communication;
  bool held_out = false;
};

std::vector<LinkPlan> link_plans() {
  std::vector<LinkPlan> plans;
  for (const Collective collective : {Collective::AllToAll, Collective::AllReduce}) {
    for (std::int64_t size = 4096; size <= (std::int64_t{1} << 22); size *= 4) {
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
        grid_(std::move(grid)),
        progress_(progress),
        links_(options.ranks > 1 ? link_plans() : std::vector<LinkPlan>{}),
        findings_(static_cast<std::size_t>(options.ranks)) {
    const int size = static_cast<int>(options.ranks);
    control_ = make_inproc_group(size, {}, "calibration control");
    data_ = make_inproc_group(size, {options.pacing, std::chrono::seconds(60)}, "calibration");
  }

  [[nodiscard]] Status run() {
    const auto release = [this](const Error& error) {
      control_[0]->abort(error);
      data_[0]->abort(error);
    };
    return run_ranks(
        static_cast<int>(options_.ranks), [this](int rank) { return run_rank(rank); }, release);
  }
  [[nodiscard]] CalibrationResult result() const;

 private:
  [[nodiscard]] Status run_rank(int rank);
  [[nodiscard]] Status bench_lanes(const LaneRank& lanes, RankFindings& findings);
  [[nodiscard]] Status bench_links(const LaneRank& lanes, Communicator& control, RankFindings& findings);
  [[nodiscard]] Result<bool> all_go_on(Communicator& control, bool go_on);
  [[nodiscard]] bool report(double done, std::string_view what) const { return !progress_ || progress_(done, what); }
  [[nodiscard]] std::vector<KernelSample> kernel_samples() const;
  [[nodiscard]] std::vector<LinkSample> link_samples() const;
  void fit_device(DeviceProfile& device, const std::vector<KernelSample>& samples) const;
  void fit_node(HardwareProfile& profile, const std::vector<LinkSample>& samples) const;
  void add_sources(HardwareProfile& profile) const;
  template <typename Get>
  [[nodiscard]] double median_over_ranks(Get get) const;

  const CalibrationOptions& options_;
  WorkGrid grid_;
  const CalibrationProgress& progress_;
  std::vector<LinkPlan> links_;
  std::vector<RankFindings> findings_;
  std::vector<std::unique_ptr<Communicator>> control_, data_;
  SteadyClock clock_;
  std::string backend_name_, device_name_;  // written by rank 0
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
    backend_name_ = backend.value()->name();
    device_name_ = backend.value()->device_name();
  }
  RankFindings& findings = findings_[index];
  Communicator& control = *control_[index];
  const LaneRank lanes{*backend.value(), *data_[index], clock_, options_.dtype};
  RETURN_IF_ERROR(bench_lanes(lanes, findings));
  if (!links_.empty()) RETURN_IF_ERROR(bench_links(lanes, control, findings));
  std::vector<Work> works = grid_.fitted;
  works.insert(works.end(), grid_.held_out.begin(), grid_.held_out.end());
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
  findings.links.resize(links_.size());
  const Instant deadline = Instant{} + options_.budget / 5;
  for (int round = 0; round < 5; ++round) {
    for (std::size_t i = 0; i < links_.size(); ++i) {
      const double done = std::min(0.2, 0.2 * seconds(clock_.now() - Instant{}) / seconds(options_.budget / 5));
      const bool wanted = control.rank() != 0 || report(done, "link");
      const auto go_on = all_go_on(control, wanted && (round == 0 || clock_.now() < deadline));
      if (!go_on.ok()) return go_on.error();
      if (!*go_on) return wanted ? Status() : interrupted();
      const auto time = bench_collective(lanes, links_[i].communication, 4);
      if (!time.ok()) return time.error();
      findings.links[i].push_back(seconds(*time));
    }
  }
  return {};
}

template <typename Get>
double Calibration::median_over_ranks(Get get) const {
  std::vector<double> values;
  for (const RankFindings& findings : findings_) {
    const std::vector<double>& of_rank = get(findings);
    values.insert(values.end(), of_rank.begin(), of_rank.end());
  }
  return values.empty() ? 0 : median(values);
}

std::vector<KernelSample> Calibration::kernel_samples() const {
  std::vector<KernelSample> samples;
  for (std::size_t i = 0; i < findings_[0].kernels.size(); ++i) {
    FormTimes times;
    for (const RankFindings& findings : findings_) append_times(findings.kernels[i].times, times);
    samples.push_back(
        {findings_[0].kernels[i].work, duration_from_seconds(typical_time(times)), i >= grid_.fitted.size()});
  }
  return samples;
}

std::vector<LinkSample> Calibration::link_samples() const {
  std::vector<LinkSample> samples;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    const double time = median_over_ranks([&](const RankFindings& f) -> const auto& { return f.links[i]; });
    if (time <= 0) continue;
    samples.push_back({links_[i].communication, options_.ranks, duration_from_seconds(time), links_[i].held_out});
  }
  return samples;
}

Bytes memory_of_rank(std::int64_t ranks) {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page <= 0) return Bytes(0);
  return Bytes(static_cast<std::int64_t>(pages) * page / ranks);
}

void Calibration::fit_device(DeviceProfile& device, const std::vector<KernelSample>& samples) const {
  device.name = device_name_;
  device.memory = memory_of_rank(options_.ranks);
  device.operator_overhead = duration_from_seconds(
      median_over_ranks([](const RankFindings& findings) -> const auto& { return findings.overheads; }));
  device.gemm = fit_gemm(samples, grid_.gemm_axes);
  device.grouped_gemm = fit_grouped_gemm(samples, grid_.grouped_axes);
  device.attention_forward = fit_attention(samples, false);
  device.attention_backward = fit_attention(samples, true);
  device.memory_kernels = fit_memory_kernels(samples);
  double peak = 0;
  double copy = 0;
  for (const KernelSample& sample : samples) {
    const double time = seconds(sample.time);
    const auto* memory = std::get_if<MemoryWork>(&sample.work);
    if (memory == nullptr) peak = std::max(peak, flops(sample.work).value() / time);
    if (memory != nullptr && memory->kernel == MemoryKernel::Copy) copy = std::max(copy, memory->bytes.value() / time);
  }
  device.peak = FlopsPerSecond(peak);
  device.memory_rate = BytesPerSecond(copy);
}

void Calibration::fit_node(HardwareProfile& profile, const std::vector<LinkSample>& samples) const {
  profile.node.ranks = options_.ranks;
  // Alone there is no link; its numbers are never asked for.
  for (LinkProfile* link : {&profile.node.all_to_all, &profile.node.all_reduce}) {
    link->bandwidth = profile.device.memory_rate;
  }
  if (samples.empty()) return;
  std::vector<LinkSample> direct, reduce;
  for (const LinkSample& sample : samples) {
    (sample.communication.collective == Collective::AllToAll ? direct : reduce).push_back(sample);
  }
  profile.node.all_to_all = fit_link(direct);
  profile.node.all_reduce = fit_link(reduce);
  const auto at_least_one = [&](auto get) { return std::max(1.0, median_over_ranks(get)); };
  profile.interference.compute_beside_communication =
      at_least_one([](const RankFindings& findings) -> const auto& { return findings.compute_beside; });
  profile.interference.communication_beside_compute =
      at_least_one([](const RankFindings& findings) -> const auto& { return findings.communication_beside; });
}

void Calibration::add_sources(HardwareProfile& profile) const {
  const std::string paced = options_.pacing ? fmt::format("paced to {} + {}", to_text(options_.pacing->latency),
                                                          to_text(options_.pacing->bandwidth))
                                            : "not paced";
  const std::string how = fmt::format("moecast calibrate{}{}, {} x{}, inproc link {}, {} of measurements",
                                      options_.date.empty() ? "" : ", ", options_.date, backend_name_, options_.ranks,
                                      paced, to_text(options_.budget));
  profile.sources[""] = {SourceKind::Measured, how};
  profile.sources["/device/peak"] = {SourceKind::Measured, "best product of the calibration; " + how};
  profile.sources["/device/memory"] = {SourceKind::Measured, "physical memory, divided among the ranks"};
}

CalibrationResult Calibration::result() const {
  CalibrationResult result;
  result.kernels = kernel_samples();
  result.links = link_samples();
  HardwareProfile& profile = result.profile;
  profile.name = options_.name;
  profile.description = fmt::format("{} x {}, {} between ranks{}", options_.ranks, device_name_, "threads and memory",
                                    options_.pacing ? ", link paced" : "");
  fit_device(profile.device, result.kernels);
  fit_node(profile, result.links);
  profile.fit = fit_quality(profile, result.kernels, result.links);
  add_sources(profile);
  return result;
}

}  // namespace

Result<CalibrationResult> calibrate_with_samples(const CalibrationOptions& options, Log& log,
                                                 const CalibrationProgress& progress) {
  RETURN_IF_ERROR(check(options));
  // A call may take about 1/2500 of the time at 100 GFLOP/s; larger shapes continue the rates of smaller ones. The
  // least that has every kernel in it is 2e7.
  const double max_cost = std::max(2e7, 4e7 * seconds(options.budget));
  auto grid = calibration_grid(bytes_per_element(options.dtype), max_cost);
  if (!grid.ok()) return grid.error();
  log.info("calibrating {} ranks: {} kernels and {} apart", options.ranks, grid->fitted.size(), grid->held_out.size());
  Calibration calibration(options, std::move(grid).value(), progress);
  RETURN_IF_ERROR(calibration.run());
  CalibrationResult result = calibration.result();
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
