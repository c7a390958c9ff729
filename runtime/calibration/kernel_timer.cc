#include "runtime/calibration/kernel_timer.h"

#include <algorithm>

#include "base/statistics.h"

#ifdef __linux__
#include <ctime>

#include <sys/resource.h>
#endif

namespace moecast {
namespace {

/// What the system has done with this thread so far; zero where it does not say.
struct ThreadUse {
  double seconds = 0;            // on a processor
  std::int64_t preemptions = 0;  // times that the processor was taken away
};

ThreadUse thread_use() {
  ThreadUse use;
#ifdef __linux__
  timespec time = {};
  rusage usage = {};
  if (::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0 && ::getrusage(RUSAGE_THREAD, &usage) == 0) {
    use.seconds = static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    use.preemptions = usage.ru_nivcsw;
  }
#endif
  return use;
}

}  // namespace

Result<FormTimes> time_kernel(Backend& backend, Lane lane, const KernelCalls& kernel, std::int64_t round_count,
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
  std::vector<ThreadUse> uses = {thread_use()};
  for (int i = 0; i < timed; ++i) {
    backend.record_event(lane, 2 * i);
    call();
    backend.record_event(lane, 2 * i + 1);
    uses.push_back(thread_use());
  }
  backend.synchronize(lane);
  RETURN_IF_ERROR(backend.check());
  FormTimes times(kernel.form_count);
  for (int i = 0; i < timed; ++i) {
    double time = seconds(backend.elapsed(2 * i, 2 * i + 1));
    const ThreadUse& before = uses[static_cast<std::size_t>(i)];
    const ThreadUse& after = uses[static_cast<std::size_t>(i) + 1];
    const bool preempted = !backend.asynchronous() && after.preemptions != before.preemptions;
    if (preempted) time = std::min(time, after.seconds - before.seconds);
    times[static_cast<std::size_t>(i % forms)].push_back(std::max(1e-9, time));
  }
  return times;
}

void append_times(const FormTimes& more, FormTimes& times) {
  times.resize(more.size());
  for (std::size_t form = 0; form < more.size(); ++form) {
    times[form].insert(times[form].end(), more[form].begin(), more[form].end());
  }
}

double typical_time(const FormTimes& times) {
  double sum = 0;
  for (const std::vector<double>& of_form : times) sum += median(of_form);
  return sum / static_cast<double>(times.size());
}

}  // namespace moecast
