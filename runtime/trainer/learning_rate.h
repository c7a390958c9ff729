#pragma once

#include <cstdint>

namespace moecast {

/// Linear warm-up from 0 to the peak, then half a cosine down to the minimum at the last step (Loshchilov & Hutter,
/// "SGDR", arXiv 1608.03983, equation 5, one period).
struct LearningRateSchedule {
  double peak = 3e-4;
  double minimum = 0;
  std::int64_t warmup_steps = 0;
  std::int64_t steps = 1;  // of the whole run

  /// `step` counts from 0: step i of a warm-up of w steps has peak * (i + 1) / w.
  [[nodiscard]] double at(std::int64_t step) const;
};

}  // namespace moecast
