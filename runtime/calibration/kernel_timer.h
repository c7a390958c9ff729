#pragma once

#include <cstdint>
#include <vector>

#include "runtime/backend.h"
#include "runtime/calibration/kernel_runner.h"

namespace moecast {

/// Times `round_count` rounds, each one call of every form of a kernel on the next operand set, after `warm_up` rounds
/// that do not count. Each call lies between two events of its lane, as operators do in a training step. The time of
/// the kernel in seconds: for every form the median over its calls, then the mean over the forms (a step runs each form
/// about as often). RunFailed if the device reports an error.
[[nodiscard]] Result<double> time_kernel(Backend& backend, Lane lane, const KernelCalls& kernel,
                                         std::int64_t round_count, std::int64_t warm_up);

}  // namespace moecast
