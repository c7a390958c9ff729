#include "runtime/calibration/kernel_bench.h"

#include <algorithm>
#include <numeric>

#include "runtime/calibration/kernel_timer.h"
#include "runtime/calibration/operands.h"

namespace moecast {
namespace {

constexpr std::int64_t kMaxRepeats = 24;
constexpr std::int64_t kStop = 0;

std::vector<std::size_t> cheapest_first(const std::vector<Work>& works) {
  std::vector<std::size_t> order(works.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return estimated_cost(works[a]) < estimated_cost(works[b]); });
  return order;
}

/// Rank 0's view of the time; the others are told.
class Pace {
 public:
  Pace(const BenchRank& rank, std::size_t work_count, Instant deadline)
      : rank_(rank), work_count_(static_cast<double>(work_count)), start_(rank.clock.now()), deadline_(deadline) {}

  /// Repeats of the next kernel, kStop when the time is over. Every rank calls it at the same point.
  [[nodiscard]] Result<std::int64_t> next(const KernelTimes& times, bool stop) {
    const bool over = !times.times.empty() && rank_.clock.now() >= deadline_;
    const std::int64_t mine = stop || over ? kStop : repeats(times);
    const std::vector<std::int64_t> to_all(static_cast<std::size_t>(rank_.control.size()), mine);
    const auto from_all = rank_.control.exchange(to_all);
    if (!from_all.ok()) return from_all.error();
    return from_all.value()[0];
  }
  [[nodiscard]] double done() const {
    return std::clamp(seconds(rank_.clock.now() - start_) / std::max(1e-9, seconds(deadline_ - start_)), 0.0, 1.0);
  }

 private:
  /// Few in the first round; then so many that about five rounds fit, each kernel with the same share of the time.
  [[nodiscard]] std::int64_t repeats(const KernelTimes& times) const {
    if (times.times.empty()) return 1;
    const double cost = typical_time(times.times) * static_cast<double>(times.times.size());
    const double share = seconds(deadline_ - start_) / 5 / work_count_;
    return std::clamp(static_cast<std::int64_t>(share / cost) - 1, std::int64_t{1}, kMaxRepeats);
  }

  const BenchRank& rank_;
  double work_count_;
  Instant start_, deadline_;
};

/// Short kernels are warmed up longer: the ranks do not leave the meeting at the same moment.
std::int64_t warm_up_of(const Work& work) {
  const double cost = std::max(1.0, estimated_cost(work));
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(2e6 / cost), 0, 8);
}

}  // namespace

double estimated_cost(const Work& work) { return flops(work).value() + 4 * bytes(work, 4).value(); }

Result<std::vector<KernelTimes>> bench_kernels(const BenchRank& rank, const std::vector<Work>& works, Instant deadline,
                                               const std::function<bool(double)>& progress) {
  std::vector<KernelTimes> times;
  for (const Work& work : works) times.push_back({work, {}});
  const std::vector<std::size_t> order = cheapest_first(works);
  Operands operands(rank.backend, rank.compute);
  Pace pace(rank, works.size(), deadline);
  while (true) {
    for (const std::size_t index : order) {
      operands.reset();
      const auto kernel = kernel_calls(rank.backend, operands, works[index], Lane::Compute, rank.working_set);
      if (!kernel.ok()) return kernel.error();
      const bool go_on = rank.control.rank() != 0 || progress(pace.done());
      const auto repeats = pace.next(times[index], !go_on);
      if (!repeats.ok()) return repeats.error();
      if (*repeats == kStop) return times;
      const auto time = time_kernel(rank.backend, Lane::Compute, kernel.value(), *repeats, warm_up_of(works[index]));
      if (!time.ok()) return time.error();
      append_times(time.value(), times[index].times);
    }
  }
}

}  // namespace moecast
