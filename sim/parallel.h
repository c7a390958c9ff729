#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace moecast {

/// Calls work(i) for i = 0 .. count-1 on `threads` threads, whichever is free next; begins no more once stop() is true.
template <typename Work, typename Stop>
void for_each_in_parallel(std::size_t count, unsigned threads, Work work, Stop stop) {
  std::atomic<std::size_t> next = 0;
  const auto run = [&] {
    for (std::size_t i = next++; i < count && !stop(); i = next++) work(i);
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < std::min<std::size_t>(threads, count); ++i) others.emplace_back(run);
  run();
  for (std::thread& thread : others) thread.join();
}

template <typename Work>
void for_each_in_parallel(std::size_t count, unsigned threads, Work work) {
  for_each_in_parallel(count, threads, work, [] { return false; });
}

}  // namespace moecast
