#include "runtime/comm/pacing.h"

#include <fmt/format.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

namespace moecast {

Duration paced_time(const PacedLink& link, double port_bytes) {
  return link.latency + duration_from_seconds(port_bytes == 0 ? 0 : port_bytes / link.bandwidth.value());
}

void ask_for_exact_sleeps() {
#ifdef __linux__
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
#endif
}

void spin_until(SteadyTime end) {
  while (std::chrono::steady_clock::now() < end) {
  }
}

Error stalled_link(const std::string& group, double port_bytes, Duration timeout) {
  return {ErrorKind::RunFailed, group + " group",
          fmt::format("the link stalled: {} were not through after {}",
                      pretty(Bytes(static_cast<std::int64_t>(port_bytes))), pretty(timeout))};
}

}  // namespace moecast
