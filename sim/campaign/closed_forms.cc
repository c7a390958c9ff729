#include "sim/campaign/closed_forms.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "base/math.h"

namespace moecast {

namespace {
/// e^x - 1 without cancellation.
double exp_minus_one(double x) {
  if (std::fabs(x) > 1e-3) return portable_exp(x) - 1;
  return x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5))));
}

/// ln C(n, k).
double log_choose(std::int64_t n, std::int64_t k) {
  const auto log_factorial = [](std::int64_t value) { return portable_log_gamma(static_cast<double>(value) + 1); };
  return log_factorial(n) - log_factorial(k) - log_factorial(n - k);
}
}  // namespace

double segment_time(double mtbf, double work, double checkpoint, double restart, double downtime) {
  return portable_exp(restart / mtbf) * (mtbf + downtime) * exp_minus_one((work + checkpoint) / mtbf);
}
double completion_time(double mtbf, double work, double checkpoint, double restart, double total, double downtime) {
  return segment_time(mtbf, work, checkpoint, restart, downtime) * total / work;
}
double efficiency(double mtbf, double work, double checkpoint, double restart, double downtime) {
  return work / segment_time(mtbf, work, checkpoint, restart, downtime);
}
double efficiency_with_safe_restart(double mtbf, double work, double checkpoint, double restart) {
  return work / ((mtbf + restart) * exp_minus_one((work + checkpoint) / mtbf));
}
double failed_attempt_time(double mtbf, double length) { return mtbf - length / exp_minus_one(length / mtbf); }

double lambert_w0(double x) {
  constexpr double kLeast = -0.36787944117144233;  // -1/e
  ASSERT(x >= kLeast && x <= 0, "W0 of {}", x);
  // Halley's iteration from the series at the branch point.
  const double p = std::sqrt(std::max(0.0, 2 * (2.718281828459045 * x + 1)));
  double w = -1 + p * (1 - p / 3 * (1 - 11 * p / 24));
  for (int i = 0; i < 50 && p > 0; ++i) {
    const double e = portable_exp(w);
    const double error = w * e - x;
    const double next = w - error / (e * (w + 1) - (w + 2) * error / (2 * w + 2));
    if (!(std::fabs(next - w) > 1e-16 * std::fabs(w))) break;
    w = next;
  }
  return w;
}

double best_interval(double mtbf, double checkpoint) {
  return mtbf * (1 + lambert_w0(-portable_exp(-checkpoint / mtbf - 1)));
}
double young_interval(double mtbf, double checkpoint) { return std::sqrt(2 * checkpoint * mtbf); }
double daly_interval(double mtbf, double checkpoint) {
  const double ratio = checkpoint / (2 * mtbf);
  if (ratio >= 1) return mtbf;
  return young_interval(mtbf, checkpoint) * (1 + std::sqrt(ratio) / 3 + ratio / 9) - checkpoint;
}
double first_order_waste(double mtbf, double work, double checkpoint, double restart, double downtime) {
  return checkpoint / work + (work / 2 + restart + downtime) / mtbf;
}

double meta_ettr(double mtbf, double work, double write, double restart) {
  return (1 - (restart + work / 2) / mtbf) / (1 + write / work);
}
double job_mtbf(double nodes, double failures_per_node) { return 1 / (nodes * failures_per_node); }
double nvidia_interval(double mtbf, double checkpoint, double restart) {
  return checkpoint + std::sqrt(2 * (mtbf + restart) * checkpoint + checkpoint * checkpoint);
}

double asynchronous_age(double period, double latency) { return latency + period / 2; }
double asynchronous_efficiency(double mtbf, double work, double stall, double latency, double restart) {
  return 1 / (1 + stall / work) / (1 + (restart + asynchronous_age(work - stall, latency)) / mtbf);
}

double renewal_efficiency(const TimeDistribution& gap, double work, double checkpoint, double restart) {
  double segments = 0;
  for (std::int64_t i = 1; i < 100'000'000; ++i) {
    const double survival = gap.survival(static_cast<double>(i) * (work + checkpoint));
    segments += survival;
    if (survival < 1e-15) break;
  }
  return work * segments / (gap.mean + restart);
}

double multilevel_waste(std::span<const CheckpointLevelCost> levels) {
  double sum = 0;
  for (const CheckpointLevelCost& level : levels) {
    sum += std::sqrt(2 * level.failure_rate * level.checkpoint) + level.failure_rate * level.restart;
  }
  return sum;
}
double two_level_loss(double memory_works, const RecoveryLevel& memory, const RecoveryLevel& storage) {
  const auto loss = [](const RecoveryLevel& level) {
    return level.restart + asynchronous_age(level.period, level.latency);
  };
  return memory_works * loss(memory) + (1 - memory_works) * loss(storage);
}

double copies_survive(std::int64_t nodes, std::int64_t copies, std::int64_t lost) {
  ASSERT(nodes % copies == 0 && lost >= 0 && lost <= nodes, "{} nodes, {} copies, {} lost", nodes, copies, lost);
  double sum = 0;
  for (std::int64_t j = 0; j * copies <= lost && j <= nodes / copies; ++j) {
    const double term = portable_exp(log_choose(nodes / copies, j) + log_choose(nodes - j * copies, lost - j * copies) -
                                     log_choose(nodes, lost));
    sum += j % 2 == 0 ? term : -term;
  }
  return std::clamp(sum, 0.0, 1.0);
}
double copies_survive_bound(std::int64_t nodes, std::int64_t copies, std::int64_t lost) {
  if (lost < copies) return 1;
  const double groups = static_cast<double>(nodes) / static_cast<double>(copies);
  return std::max(0.0, 1 - groups * portable_exp(log_choose(nodes - copies, lost - copies) - log_choose(nodes, lost)));
}
double gemini_waste(double checkpoint, double period, double retrieve) { return checkpoint + period / 2 + retrieve; }

double sparse_recomputation(double window, double step) { return 1.5 * window * step; }
double sparse_efficiency(double mtbf, double window, double step, double stall_per_step, double restart) {
  return 1 / (1 + stall_per_step / step) / (1 + (restart + sparse_recomputation(window, step)) / mtbf);
}

}  // namespace moecast
