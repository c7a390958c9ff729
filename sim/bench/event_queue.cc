#include "sim/event_queue.h"

#include <benchmark/benchmark.h>

#include "base/random.h"

namespace moecast {
namespace {

/// The hold model (Jones, "An empirical comparison of priority-queue and event-set implementations", CACM 29(4), 1986):
/// a queue of constant length; each round pops one event and schedules its successor an exponential time later.
void hold(benchmark::State& state) {
  const auto length = static_cast<std::uint32_t>(state.range(0));
  constexpr std::uint32_t kDelays = 1 << 12;
  const CounterRandom random(1, 0);
  std::vector<Duration> delays;
  for (std::uint32_t i = 0; i < kDelays; ++i) delays.push_back(duration_from_seconds(1e-6 * random.exponential(i, 0)));

  EventQueue queue;
  for (std::uint32_t i = 0; i < length; ++i) queue.schedule(Instant(delays[i % kDelays]), {0, i});
  std::uint32_t round = 0;
  for (auto _ : state) {
    const Event event = queue.pop();
    queue.schedule(event.time + delays[round++ % kDelays], event.payload);
  }
  state.SetItemsProcessed(state.iterations());  // events: one popped, one scheduled
}
BENCHMARK(hold)->Name("EventQueue/hold")->RangeMultiplier(16)->Range(16, 1 << 20);

/// Every event is moved once before it fires: what a fluid completion does when its rate changes.
void reschedule(benchmark::State& state) {
  const auto length = static_cast<std::uint32_t>(state.range(0));
  EventQueue queue;
  std::vector<EventHandle> handles;
  for (std::uint32_t i = 0; i < length; ++i) handles.push_back(queue.schedule(Instant(Duration(1000 + i)), {0, i}));
  std::uint32_t round = 0;
  for (auto _ : state) {
    const std::uint32_t victim = round++ * 7919 % length;
    queue.cancel(handles[victim]);
    handles[victim] = queue.schedule(queue.now() + Duration(1000 + round % 512), {0, victim});
    const Event event = queue.pop();
    handles[event.payload.subject] = queue.schedule(event.time + Duration(1000), event.payload);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reschedule)->Name("EventQueue/reschedule")->Arg(1024);

}  // namespace
}  // namespace moecast
