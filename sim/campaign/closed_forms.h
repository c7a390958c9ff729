#pragma once

#include <cstdint>
#include <span>

#include "hwprofiles/time_distribution.h"

namespace moecast {

/// Results about checkpoints and failures that a simulated campaign must agree with, each by name and with its source.
/// All times of one call are in one unit, whichever it is. Symbols: `mtbf` M mean time between failures of the whole
/// job; `work` tau between checkpoints; `checkpoint` C blocking cost; `restart` R restart and load, during which
/// failures strike; `downtime` D after each failure, free of failures.

/// Expected time of one segment of work and its checkpoint under exponential failures:
/// e^(R/M) (M + D) (e^((tau + C)/M) - 1). (Daly, FGCS 22(3), 2006; with D: Bougeret et al., SC'11.)
[[nodiscard]] double segment_time(double mtbf, double work, double checkpoint, double restart, double downtime = 0);
/// Expected time of `total` work in segments (Daly's complete model with downtime).
[[nodiscard]] double completion_time(double mtbf, double work, double checkpoint, double restart, double total,
                                     double downtime = 0);
/// Useful share of the time, failures also during restart; and with a restart that is free of failures:
/// tau / ((M + R)(e^((tau + C)/M) - 1)).
[[nodiscard]] double efficiency(double mtbf, double work, double checkpoint, double restart, double downtime = 0);
[[nodiscard]] double efficiency_with_safe_restart(double mtbf, double work, double checkpoint, double restart);
/// Expected time of an attempt of length `length` that fails: M - x / (e^(x/M) - 1); half of x for x << M.
[[nodiscard]] double failed_attempt_time(double mtbf, double length);

/// Interval that minimizes the completion time: M (1 + W0(-e^(-C/M - 1))), W0 Lambert's function. Independent of R, D.
[[nodiscard]] double best_interval(double mtbf, double checkpoint);
/// sqrt(2 C M) (Young, CACM 17(9), 1974).
[[nodiscard]] double young_interval(double mtbf, double checkpoint);
/// sqrt(2 C M)(1 + sqrt(C/2M)/3 + (C/2M)/9) - C for C < 2 M, else M (Daly, FGCS 22(3), 2006).
[[nodiscard]] double daly_interval(double mtbf, double checkpoint);
/// C/tau + (tau/2 + R + D)/M. Void above 1, and for C > M/2.
[[nodiscard]] double first_order_waste(double mtbf, double work, double checkpoint, double restart,
                                       double downtime = 0);
/// Principal branch of Lambert's W: w e^w = x, -1/e <= x <= 0.
[[nodiscard]] double lambert_w0(double x);

/// (1 - (u0 + tau/2)/M) / (1 + w/tau): expected training time ratio of Meta's clusters, with queueing left out (arXiv
/// 2410.21680, section 4).
[[nodiscard]] double meta_ettr(double mtbf, double work, double write, double restart);
/// 1 / (N r): mean time to failure of a job on N nodes with r failures per node and unit of time.
[[nodiscard]] double job_mtbf(double nodes, double failures_per_node);
/// T_s + sqrt(2 (T_f + T_r) T_s + T_s^2): best time between checkpoints after NVIDIA (arXiv 2410.18124).
[[nodiscard]] double nvidia_interval(double mtbf, double checkpoint, double restart);

/// Mean age L + tau/2 of the newest usable version at a random failure: a checkpoint begins every `period` and can be
/// restored `latency` after it began.
[[nodiscard]] double asynchronous_age(double period, double latency);
/// 1/(1 + s/tau) / (1 + (R + L + (tau - s)/2)/M): useful share with stall s after the beginning of each of these
/// checkpoints, first order in the loss (a failure undoes L + (tau + s)/2 of the time, but one stall less was paid).
[[nodiscard]] double asynchronous_efficiency(double mtbf, double work, double stall, double latency, double restart);

/// Useful share with gaps of any law, a fresh clock after each restart and restarts free of failures: tau n / (M + R),
/// n = sum over i >= 1 of S(i (tau + C)), the segments completed in a gap.
[[nodiscard]] double renewal_efficiency(const TimeDistribution& gap, double work, double checkpoint, double restart);

/// Least waste of several levels to first order: sum of sqrt(2 lambda_l C_l) + lambda_l R_l (Benoit et al., IEEE TC
/// 66(7), 2017); one level: Young.
struct CheckpointLevelCost {
  double failure_rate = 0, checkpoint = 0, restart = 0;
};
[[nodiscard]] double multilevel_waste(std::span<const CheckpointLevelCost> levels);
/// Expected loss per failure when memory works with probability p and storage has to otherwise:
/// p (R1 + tau1/2 + L1) + (1 - p)(R2 + tau2/2 + L2).
struct RecoveryLevel {
  double restart = 0, period = 0, latency = 0;
};
[[nodiscard]] double two_level_loss(double memory_works, const RecoveryLevel& memory, const RecoveryLevel& storage);

/// Probability that k random nodes of N, lost at once, leave a copy of everything: disjoint groups of m, m | N,
/// exactly, sum_j (-1)^j C(N/m, j) C(N - j m, k - j m) / C(N, k).
[[nodiscard]] double copies_survive(std::int64_t nodes, std::int64_t copies, std::int64_t lost);
/// Lower bound of Gemini (SOSP'23): max(0, 1 - N C(N-m, k-m) / (m C(N, k))), 1 for k < m.
[[nodiscard]] double copies_survive_bound(std::int64_t nodes, std::int64_t copies, std::int64_t lost);
/// Gemini's time wasted by a failure: t_ckpt + 1/(2 f) + t_retrieve, `period` = 1/f.
[[nodiscard]] double gemini_waste(double checkpoint, double period, double retrieve);

/// Sparse windows (MoEvement, arXiv 2412.15411): mean recomputation 1.5 W T_iter; and the useful share with it.
[[nodiscard]] double sparse_recomputation(double window, double step);
[[nodiscard]] double sparse_efficiency(double mtbf, double window, double step, double stall_per_step, double restart);

}  // namespace moecast
