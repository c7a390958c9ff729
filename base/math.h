#pragma once

namespace moecast {

/// Elementary functions that give the same bits on every x86-64 machine: made of + - * / and sqrt in a fixed order
/// (glibc chooses other code paths by CPU). Relative error below 4e-16 (log), 1e-15 (exp, normal_quantile), and
/// 1e-15 (1 + |y log x|) (pow).
/// What decides an event or reaches an output of the simulator uses these.
[[nodiscard]] double portable_log(double x);            // x > 0, finite
[[nodiscard]] double portable_exp(double x);            // overflows to infinity, underflows to 0
[[nodiscard]] double portable_pow(double x, double y);  // x > 0
/// ln of the gamma function, z > 0. Relative error below 1e-14.
[[nodiscard]] double portable_log_gamma(double z);
/// Inverse of the standard normal distribution function, 0 < p < 1 (Wichura, "Algorithm AS 241: the
/// percentage points of the normal distribution", Applied Statistics 37(3), 1988, routine PPND16).
[[nodiscard]] double normal_quantile(double p);

}  // namespace moecast
