// Counts allocations of the whole program: the executor must not allocate for an event.
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "tests/sim/hand_plan_testing.h"

namespace {

std::atomic<std::int64_t> allocation_count = 0;

[[maybe_unused]] void* counted(std::size_t size) {
  ++allocation_count;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they bring their own
void* operator new(std::size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace moecast {
namespace {

TEST(StepExecutorAllocation, ASecondRunAllocatesNothing) {
  HandPlan hand = random_plan(3, 400, true);
  hand.costs.interference = {1.3, 1.7};
  hand.costs.switch_bandwidth = BytesPerSecond(3e9);
  StepExecutor executor(hand.plan, ParallelLayout{4, 2}, hand.costs, {5, {1, 1.1, 1, 1.2}, true});
  std::vector<Span> spans;
  executor.run(spans);
  const std::int64_t before = allocation_count;
  executor.run(spans);
  EXPECT_EQ(allocation_count - before, 0);
}

}  // namespace
}  // namespace moecast
