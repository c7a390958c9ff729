#include "runtime/trainer/learning_rate.h"

#include <cmath>
#include <numbers>

namespace moecast {

double LearningRateSchedule::at(std::int64_t step) const {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const std::int64_t length = steps - 1 - warmup_steps;  // the last step has the minimum
  if (length <= 0) return peak;
  const double progress = static_cast<double>(step - warmup_steps) / static_cast<double>(length);
  return minimum + 0.5 * (peak - minimum) * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace moecast
