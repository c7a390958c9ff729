#pragma once

#include <array>
#include <cstdint>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "base/result.h"
#include "sim/campaign/workload_costs.h"

namespace moecast {

/// What workloads say about their campaigns, worked out once for all campaigns that share it, say the points of a
/// sweep. Any thread may ask; who asks for what another thread is working out waits for it.
class WorkloadResults {
 public:
  /// simulated_step.
  [[nodiscard]] Result<StepTimes> step(const Workload& workload, const HardwareProfile& hardware);
  /// planned_sizes, which do not depend on how often the policy saves.
  [[nodiscard]] Result<CheckpointCosts> sizes(const Workload& workload, const PolicySettings& policy);

  /// How many were worked out.
  [[nodiscard]] std::size_t step_count() const { return steps_.count(); }
  [[nodiscard]] std::size_t size_count() const { return sizes_.count(); }

 private:
  using Key = std::array<std::uint64_t, 2>;  // of the inputs as text: 128 bits, so that two never share one
  [[nodiscard]] static Key key_of(const std::string& text);

  template <typename T>
  class Memo {
   public:
    template <typename Make>
    Result<T> get(const Key& key, Make make) {
      std::optional<std::promise<Result<T>>> promise;  // ours to keep
      std::shared_future<Result<T>> future;
      {
        const std::scoped_lock lock(mutex_);
        const auto [place, is_new] = entries_.try_emplace(key);
        if (is_new) place->second = promise.emplace().get_future().share();
        future = place->second;
      }
      if (promise) promise->set_value(make());
      return future.get();
    }
    [[nodiscard]] std::size_t count() const {
      const std::scoped_lock lock(mutex_);
      return entries_.size();
    }

   private:
    mutable std::mutex mutex_;
    std::map<Key, std::shared_future<Result<T>>> entries_;
  };

  Memo<StepTimes> steps_;
  Memo<CheckpointCosts> sizes_;
};

}  // namespace moecast
