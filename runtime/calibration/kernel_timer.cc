#include "runtime/calibration/kernel_timer.h"

#include <algorithm>

#include "base/statistics.h"

namespace moecast {

Result<double> time_kernel(Backend& backend, Lane lane, const KernelCalls& kernel, std::int64_t round_count,
                           std::int64_t warm_up) {
  ASSERT(!kernel.calls.empty() && round_count > 0, "{} calls, {} rounds", kernel.calls.size(), round_count);
  const auto forms = static_cast<std::int64_t>(kernel.form_count);
  const std::int64_t timed = round_count * forms;
  std::size_t next = 0;
  const auto call = [&] {
    kernel.calls[next]();
    next = (next + 1) % kernel.calls.size();
  };
  backend.reserve_events(static_cast<int>(2 * timed));
  for (std::int64_t i = 0; i < warm_up * forms; ++i) call();
  for (int i = 0; i < timed; ++i) {
    backend.record_event(lane, 2 * i);
    call();
    backend.record_event(lane, 2 * i + 1);
  }
  backend.synchronize(lane);
  RETURN_IF_ERROR(backend.check());
  double sum = 0;
  for (std::int64_t form = 0; form < forms; ++form) {
    std::vector<double> times;
    for (std::int64_t i = form; i < timed; i += forms) {
      times.push_back(seconds(backend.elapsed(static_cast<int>(2 * i), static_cast<int>(2 * i + 1))));
    }
    sum += median(times);
  }
  return std::max(1e-9, sum / static_cast<double>(forms));
}

}  // namespace moecast
