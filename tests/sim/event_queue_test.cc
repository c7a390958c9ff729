#include "sim/event_queue.h"

#include <map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast {
namespace {

Instant at_ns(std::int64_t ns) { return Instant(Duration(ns)); }
EventPayload payload(std::uint32_t subject) { return {7, subject}; }

TEST(EventQueue, PopsInTimeOrder) {
  EventQueue queue;
  for (const int ns : {50, 10, 40, 20, 30}) queue.schedule(at_ns(ns), payload(static_cast<std::uint32_t>(ns)));
  for (const int ns : {10, 20, 30, 40, 50}) {
    EXPECT_EQ(queue.next_time(), at_ns(ns));
    const Event event = queue.pop();
    EXPECT_EQ(event.time, at_ns(ns));
    EXPECT_EQ(event.payload, payload(static_cast<std::uint32_t>(ns)));
    EXPECT_EQ(queue.now(), at_ns(ns));
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.next_time(), std::nullopt);
}

TEST(EventQueue, SameInstantPopsInScheduleOrder) {
  EventQueue queue;
  for (std::uint32_t i = 0; i < 100; ++i) queue.schedule(at_ns(5), payload(i));
  for (std::uint32_t i = 0; i < 100; ++i) EXPECT_EQ(queue.pop().payload.subject, i);
}

TEST(EventQueue, CancelledEventNeverPops) {
  EventQueue queue;
  const EventHandle first = queue.schedule(at_ns(1), payload(1));
  queue.schedule(at_ns(2), payload(2));
  const EventHandle last = queue.schedule(at_ns(3), payload(3));
  EXPECT_TRUE(queue.cancel(first));
  EXPECT_EQ(queue.next_time(), at_ns(2));
  EXPECT_TRUE(queue.cancel(last));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.pop().payload.subject, 2u);
  EXPECT_TRUE(queue.empty());
}

TEST(EventQueue, HandleOfAnEventThatIsGoneCancelsNothing) {
  EventQueue queue;
  const EventHandle popped = queue.schedule(at_ns(1), payload(1));
  queue.pop();
  const EventHandle successor = queue.schedule(at_ns(2), payload(2));
  ASSERT_EQ(successor.slot, popped.slot) << "the test is about a reused slot";
  EXPECT_FALSE(queue.cancel(popped));
  EXPECT_TRUE(queue.cancel(successor));
  EXPECT_FALSE(queue.cancel(successor));
}

TEST(EventQueue, HandlesFromBeforeClearCancelNothing) {
  EventQueue queue;
  const EventHandle old = queue.schedule(at_ns(9), payload(1));
  queue.clear();
  queue.schedule(at_ns(3), payload(2));
  EXPECT_FALSE(queue.cancel(old));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(EventQueueDeathTest, RefusesToScheduleInThePast) {
  EventQueue queue;
  queue.schedule(at_ns(10), payload(1));
  queue.pop();
  queue.schedule(at_ns(10), payload(2));
  EXPECT_DEATH(queue.schedule(at_ns(9), payload(3)), "scheduled at");
}

/// The same random operations on the queue and on a std::map ordered by (time, sequence).
TEST(EventQueue, AgreesWithAnOrderedMapUnderRandomUse) {
  const CounterRandom random(1, 0);
  EventQueue queue;
  std::map<std::pair<std::int64_t, std::uint32_t>, EventHandle> model;
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    const auto action = random.below(10, i, 0);
    if (action < 5 || model.empty()) {
      const std::int64_t time = queue.now().time_since_epoch().count() + random.below(50, i, 1);
      model.emplace(std::pair(time, i), queue.schedule(at_ns(time), payload(i)));
    } else if (action < 8) {  // bursts of cancellations: the heap is rebuilt now and then
      auto victim = model.begin();
      std::advance(victim, random.below(static_cast<std::int64_t>(model.size()), i, 2));
      EXPECT_TRUE(queue.cancel(victim->second));
      model.erase(victim);
    } else {
      const Event event = queue.pop();
      EXPECT_EQ(event.time, at_ns(model.begin()->first.first));
      EXPECT_EQ(event.payload.subject, model.begin()->first.second);
      model.erase(model.begin());
    }
    ASSERT_EQ(queue.size(), model.size());
    if (!model.empty()) {
      ASSERT_EQ(queue.next_time(), at_ns(model.begin()->first.first));
    }
  }
}

TEST(EventQueue, RebuildKeepsTheLiveEventsInOrder) {
  EventQueue queue;
  std::vector<EventHandle> handles;
  for (std::uint32_t i = 0; i < 1000; ++i) handles.push_back(queue.schedule(at_ns(2000 - i), payload(i)));
  for (std::uint32_t i = 0; i < 1000; ++i) {
    if (i % 10 != 0) {
      EXPECT_TRUE(queue.cancel(handles[i]));
    }
  }
  EXPECT_EQ(queue.size(), 100u);
  for (std::uint32_t i = 1000; i-- > 0;) {
    if (i % 10 == 0) {
      EXPECT_EQ(queue.pop().payload.subject, i);
    }
  }
}

}  // namespace
}  // namespace moecast
