#include "runtime/prompt_wakeup.h"

#ifdef __linux__
#include <cstdint>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moecast {

#ifdef __linux__
namespace {

/// The kernel's struct sched_attr (sched_setattr(2)) in its first version; Debian 12's C library has none.
struct SchedulerAttributes {
  std::uint32_t size = sizeof(SchedulerAttributes);
  std::uint32_t policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;  // of an ordinary thread: its time slice in nanoseconds
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

constexpr std::uint64_t kShortSlice = 100'000;  // nanoseconds; the shortest that Linux takes

/// Older kernels take the call and forget the slice, so the answer is what they remember.
bool set_short_slice() {
  SchedulerAttributes wanted, granted;
  wanted.runtime = kShortSlice;
  return syscall(SYS_sched_setattr, 0, &wanted, 0) == 0 &&
         syscall(SYS_sched_getattr, 0, &granted, sizeof granted, 0) == 0 && granted.runtime == kShortSlice;
}

}  // namespace

Wakeup ask_for_prompt_wakeups() {
  const sched_param lowest{.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &lowest) == 0) return Wakeup::RealTime;
  return set_short_slice() ? Wakeup::ShortSlice : Wakeup::InTurn;
}
#else
Wakeup ask_for_prompt_wakeups() { return Wakeup::InTurn; }
#endif

}  // namespace moecast
