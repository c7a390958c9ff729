#pragma once

#include <cstdint>
#include <vector>

#include "runtime/backend.h"
#include "runtime/calibration/kernel_runner.h"

namespace moecast {

/// Seconds of every timed call of a kernel, by form.
using FormTimes = std::vector<std::vector<double>>;

/// Times `round_count` rounds, each one call of every form of a kernel on the next operand set, after `warm_up` rounds
/// that do not count. Each call lies between two events of its lane, as operators do in a training step. A call
/// during which the system gave this thread's processor to another program counts with its time on the processor (only
/// for backends that compute on the calling thread). RunFailed if the device reports an error.
[[nodiscard]] Result<FormTimes> time_kernel(Backend& backend, Lane lane, const KernelCalls& kernel,
                                            std::int64_t round_count, std::int64_t warm_up);

/// Adds the calls of `more` form by form; `times` has the same forms or none yet.
void append_times(const FormTimes& more, FormTimes& times);

/// What a kernel takes: the median of each form's calls, then the mean over the forms (a step runs each form about as
/// often). The median, because training is judged by the median of its steps: whatever slows half of the calls here
/// (a neighbour on the same memory, a lower clock) slows half of the steps there.
[[nodiscard]] double typical_time(const FormTimes& times);

}  // namespace moecast
