#include "runtime/calibration/lane_bench.h"

#include <algorithm>
#include <numeric>

#include "base/statistics.h"
#include "runtime/calibration/kernel_runner.h"
#include "runtime/calibration/operands.h"
#include "runtime/executor.h"

namespace moecast {
namespace {

constexpr std::int64_t kRowBytes = 512;  // of all-to-all buffers: 128 floats, a small model's token

constexpr OpKind kMeeting = OpKind::Counts;

/// A plan made by hand: what matters here is lanes and dependencies.
class PlanMaker {
 public:
  OpId add_meeting() {
    const OpId id = add(Lane::Comm, {});
    plan_.operators.back().kind = kMeeting;
    return id;
  }
  OpId add(Lane lane, std::vector<OpId> dependencies) {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(plan_.operators.size()));
    op.kind = lane == Lane::Compute ? OpKind::Mlp : OpKind::Dispatch;
    op.lane = lane;
    op.dependencies = std::move(dependencies);
    plan_.operators.push_back(std::move(op));
    return plan_.operators.back().id;
  }
  [[nodiscard]] const StepPlan& plan() const { return plan_; }

 private:
  StepPlan plan_;
};

/// Buffers of one collective and the call that moves them.
class Transfer {
 public:
  Transfer(const LaneRank& rank, const Communication& communication, Operands& operands) : rank_(rank) {
    const std::int64_t size = rank.data.size();
    if (communication.collective == Collective::AllToAll) {
      const std::int64_t row = kRowBytes / bytes_per_element(rank.compute);
      const std::int64_t each = std::max<std::int64_t>(1, communication.buffer.count() / kRowBytes / size);
      send_ = operands.output(rank.compute, {each * size, row});
      receive_ = operands.output(rank.compute, {each * size, row});
      for (std::int64_t peer = 0; peer < size; ++peer) {
        segments_.push_back({static_cast<int>(peer), peer * each, each});
      }
    } else {
      const DType dtype = operands.state();
      send_ =
          operands.output(dtype, {std::max<std::int64_t>(1, communication.buffer.count() / bytes_per_element(dtype))});
      rank_.backend.fill(Lane::Compute, send_, 0);  // sums of sums grow without end
      rank_.backend.synchronize(Lane::Compute);
    }
  }
  [[nodiscard]] Status run() const {
    if (segments_.empty()) return rank_.data.all_reduce(send_);
    return rank_.data.all_to_all(send_, segments_, receive_, segments_);
  }

 private:
  LaneRank rank_;
  Tensor send_, receive_;
  std::vector<Segment> segments_;
};

/// Runs `compute` on the compute lane and `transfer` on any other; a meeting only gathers the ranks.
class LaneRunner final : public OperatorRunner {
 public:
  LaneRunner(std::function<void()> compute, std::function<Status()> transfer, Communicator& data)
      : compute_(std::move(compute)), transfer_(std::move(transfer)), data_(data) {}
  Status run(const Operator& op) override {
    if (op.kind == kMeeting) return data_.barrier();
    if (op.lane != Lane::Compute) return transfer_();
    if (compute_) compute_();
    return {};
  }
  void abandon(const Error& reason) override { data_.abort(reason); }

 private:
  std::function<void()> compute_;
  std::function<Status()> transfer_;
  Communicator& data_;
};

Duration span_of(const std::vector<Span>& spans) {
  Instant begin = spans.front().start;
  Instant end = spans.front().end;
  for (const Span& span : spans) {
    begin = std::min(begin, span.start);
    end = std::max(end, span.end);
  }
  return end - begin;
}

Duration quantile_duration(const std::vector<Duration>& durations, double q) {
  std::vector<double> values;
  for (const Duration duration : durations) values.push_back(seconds(duration));
  return duration_from_seconds(quantile(values, q));
}

}  // namespace

Result<Duration> bench_operator_overhead(const LaneRank& rank) {
  constexpr int kOperators = 200;
  PlanMaker maker;
  for (int i = 0; i < kOperators; ++i) maker.add(Lane::Compute, {});
  const auto executor = make_executor(rank.backend, rank.clock);
  LaneRunner runner({}, {}, rank.data);
  std::vector<Duration> each;
  for (std::int32_t step = 0; step < 11; ++step) {
    const auto spans = executor->run_step(maker.plan(), runner, step, Rank(rank.data.rank()));
    if (!spans.ok()) return spans.error();
    each.push_back(span_of(*spans) / kOperators);
  }
  return quantile_duration(each, 0.5);
}

Result<Duration> bench_collective(const LaneRank& rank, const Communication& communication, std::int64_t repeats) {
  Operands operands(rank.backend, rank.compute);
  const Transfer transfer(rank, communication, operands);
  RETURN_IF_ERROR(operands.status());
  PlanMaker maker;
  OpId last = maker.add(Lane::Compute, {});
  for (std::int64_t i = 0; i <= repeats; ++i) {  // the first finds its peers late: it does not count
    const OpId sent = maker.add(Lane::Comm, {last});
    last = maker.add(Lane::Compute, {sent});
  }
  const auto executor = make_executor(rank.backend, rank.clock);
  LaneRunner runner(
      {}, [&] { return transfer.run(); }, rank.data);
  const auto spans = executor->run_step(maker.plan(), runner, 0, Rank(rank.data.rank()));
  if (!spans.ok()) return spans.error();
  std::vector<Instant> ends;  // of the compute operators: one after each collective
  for (const Span& span : *spans) {
    if (span.lane == Lane::Compute) ends.push_back(span.end);
  }
  std::vector<Duration> cycles;
  for (std::size_t i = 2; i < ends.size(); ++i) cycles.push_back(ends[i] - ends[i - 1]);
  return quantile_duration(cycles, 0.25);
}

namespace {

/// One step's products that ran (for half of their time or more) beside the transfer, and the others.
struct Overlapping {
  std::vector<double> beside, alone;
  Duration transfer{};
};

Overlapping sort_by_overlap(const std::vector<Span>& spans) {  // operator 0 is the meeting
  Overlapping result;
  Instant begin{}, end{};
  for (const Span& span : spans) {
    if (span.lane == Lane::Compute || span.op == OpId(0)) continue;
    begin = span.start;
    end = span.end;
    result.transfer = span.duration();
  }
  for (const Span& span : spans) {
    if (span.lane != Lane::Compute) continue;
    const Duration shared = std::min(span.end, end) - std::max(span.start, begin);
    (2 * shared >= span.duration() ? result.beside : result.alone).push_back(seconds(span.duration()));
  }
  return result;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Both alone and together, and what the transfer takes alone.
struct Measured {
  SideBySide ratios;
  double transfer_seconds = 0;
};

Result<Measured> measure_beside(const LaneRank& rank, Lane lane, Operands& operands,
                                const std::function<Status()>& transfer, int step_count) {
  constexpr GemmWork kProduct{128, 128, 128};
  const auto kernel = kernel_calls(rank.backend, operands, kProduct, Lane::Compute, Bytes(std::int64_t{1} << 21));
  if (!kernel.ok()) return kernel.error();
  const auto executor = make_executor(rank.backend, rank.clock);
  std::size_t next = 0;
  LaneRunner runner([&] { kernel.value().calls[next++ % kernel.value().calls.size()](); }, transfer, rank.data);

  const auto step = [&](int products, bool with_transfer) -> Result<Overlapping> {
    PlanMaker maker;
    const OpId met = maker.add_meeting();
    if (with_transfer) maker.add(lane, {met});
    for (int i = 0; i < products; ++i) maker.add(Lane::Compute, {met});
    const auto spans = executor->run_step(maker.plan(), runner, 0, Rank(rank.data.rank()));
    if (!spans.ok()) return spans.error();
    return sort_by_overlap(*spans);
  };
  std::vector<double> lone_transfers, lone_products, compute_ratios, communication_ratios;
  for (int i = 0; i < step_count; ++i) {
    const auto lone = step(0, true);
    if (!lone.ok()) return lone.error();
    lone_transfers.push_back(seconds(lone.value().transfer));
    const auto products = step(16, false);
    if (!products.ok()) return products.error();
    lone_products.insert(lone_products.end(), products.value().alone.begin(), products.value().alone.end());
  }
  const double transfer_time = median(lone_transfers);
  const double product_time = median(lone_products);
  const int enough = static_cast<int>(2 * transfer_time / product_time) + 16;
  for (int i = 0; i < step_count; ++i) {
    const auto both = step(std::min(enough, 4000), true);
    if (!both.ok()) return both.error();
    if (both.value().beside.empty() || both.value().alone.empty()) continue;
    compute_ratios.push_back(mean(both.value().beside) / median(both.value().alone));
    communication_ratios.push_back(seconds(both.value().transfer) / transfer_time);
  }
  if (compute_ratios.empty()) return Measured{{}, transfer_time};
  return Measured{{median(compute_ratios), median(communication_ratios)}, transfer_time};
}

}  // namespace

Result<SideBySide> bench_interference(const LaneRank& rank, Bytes buffer, int step_count) {
  Operands operands(rank.backend, rank.compute);
  const Transfer transfer(rank, {Collective::AllToAll, Group::World, buffer}, operands);
  const auto measured = measure_beside(
      rank, Lane::Comm, operands, [&] { return transfer.run(); }, step_count);
  if (!measured.ok()) return measured.error();
  return measured->ratios;
}

Result<BesideCopy> bench_beside_copy(const LaneRank& rank, Bytes buffer, int step_count) {
  Operands operands(rank.backend, rank.compute);
  const Tensor source = operands.output(DType::I32, {buffer.count() / 4});
  RETURN_IF_ERROR(operands.status());
  const auto host = rank.backend.allocate_host(source.bytes());
  if (!host.ok()) return host.error();
  const auto copy = [&]() -> Status {
    rank.backend.download(Lane::CopyOut, (*host)->data(), source);
    return {};
  };
  const auto measured = measure_beside(rank, Lane::CopyOut, operands, copy, step_count);
  if (!measured.ok()) return measured.error();
  const double rate = measured->transfer_seconds > 0 ? source.bytes().value() / measured->transfer_seconds : 0;
  return BesideCopy{measured->ratios.compute, BytesPerSecond(rate)};
}

}  // namespace moecast
