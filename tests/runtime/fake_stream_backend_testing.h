#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "runtime/backend.h"

namespace moecast::testing {

/// An asynchronous backend without kernels: it writes down what is asked of it and knows when events would happen.
/// Every lane has a time; `work` lets it pass, an event takes it, waiting for an event lifts it. Lanes may call it from
/// different threads.
class FakeStreamBackend final : public Backend {
 public:
  Status device_status = {};

  /// What a lane was asked for, in order: "record 3", "wait 4", "run 2", "synchronize".
  [[nodiscard]] std::vector<std::string> log(Lane lane) const {
    const std::lock_guard lock(mutex_);
    const auto found = log_.find(lane);
    return found == log_.end() ? std::vector<std::string>() : found->second;
  }
  [[nodiscard]] int reserved_events() const { return reserved_; }

  /// A kernel of this length on that lane.
  void work(Lane lane, OpId op, Duration duration) {
    const std::lock_guard lock(mutex_);
    log_[lane].push_back(fmt::format("run {}", op.value()));
    lane_time_[lane] += duration;
  }

  std::string name() const override { return "fake"; }
  std::string device_name() const override { return "fake"; }
  bool asynchronous() const override { return true; }
  void synchronize(Lane lane) override {
    const std::lock_guard lock(mutex_);
    log_[lane].push_back("synchronize");
  }
  void reserve_events(int capacity) override { reserved_ = capacity; }
  void record_event(Lane lane, int index) override {
    const std::lock_guard lock(mutex_);
    log_[lane].push_back(fmt::format("record {}", index));
    event_time_[index] = lane_time_[lane];
  }
  void wait_event(Lane lane, int index) override {
    const std::lock_guard lock(mutex_);
    log_[lane].push_back(fmt::format("wait {}", index));
    ASSERT(event_time_.contains(index), "event {} was never recorded", index);
    lane_time_[lane] = std::max(lane_time_[lane], event_time_[index]);
  }
  Duration elapsed(int from, int to) override { return event_time_.at(to) - event_time_.at(from); }
  Status check() override { return device_status; }

  // No memory, no kernels ---------------------------------------------------------------------------------------------
  Result<std::unique_ptr<DeviceMemory>> allocate(Bytes) override { return none(); }
  Result<std::unique_ptr<DeviceMemory>> allocate_host(Bytes) override { return none(); }
  void copy(Lane, Tensor, Tensor) override { never(); }
  void upload(Lane, Tensor, const void*) override { never(); }
  void download(Lane, void*, Tensor) override { never(); }
  void fill(Lane, Tensor, double) override { never(); }
  void add(Lane, Tensor, Tensor) override { never(); }
  void cast(Lane, Tensor, Tensor) override { never(); }
  void add_scaled_rows(Lane, Tensor, Tensor, Tensor) override { never(); }
  void scaled_rows_backward(Lane, Tensor, Tensor, Tensor, Tensor, Tensor) override { never(); }
  void sigmoid(Lane, Tensor) override { never(); }
  void sigmoid_backward(Lane, Tensor, Tensor) override { never(); }
  void softmax_pairs(Lane, Tensor) override { never(); }
  void softmax_pairs_backward(Lane, Tensor, Tensor) override { never(); }
  void gemm(Lane, bool, bool, Tensor, Tensor, Tensor, bool) override { never(); }
  void grouped_gemm(Lane, Tensor, Tensor, bool, std::span<const std::int64_t>, Tensor) override { never(); }
  void grouped_gemm_weight(Lane, Tensor, Tensor, std::span<const std::int64_t>, Tensor) override { never(); }
  void bias_add(Lane, Tensor, Tensor, std::span<const std::int64_t>) override { never(); }
  void bias_gradient(Lane, Tensor, std::span<const std::int64_t>, Tensor) override { never(); }
  void activation(Lane, Activation, Tensor, Tensor) override { never(); }
  void activation_backward(Lane, Activation, Tensor, Tensor, Tensor) override { never(); }
  void norm(Lane, NormKind, Tensor, Tensor, Tensor, double, Tensor, Tensor, Tensor) override { never(); }
  void norm_backward(Lane, NormKind, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool, Tensor, Tensor) override {
    never();
  }
  void attention(Lane, const AttentionShape&, Tensor, Tensor, Tensor) override { never(); }
  void attention_backward(Lane, const AttentionShape&, Tensor, Tensor, Tensor, Tensor, Tensor) override { never(); }
  void rope(Lane, const AttentionShape&, double, Tensor, bool) override { never(); }
  void embedding(Lane, Tensor, Tensor, Tensor, std::int64_t, Tensor) override { never(); }
  void embedding_backward(Lane, Tensor, Tensor, std::int64_t, Tensor, Tensor) override { never(); }
  void cross_entropy(Lane, Tensor, Tensor, double, Tensor) override { never(); }
  void gate(Lane, const GateRule&, std::optional<std::int64_t>, const GateInput&, const GateTensors&) override {
    never();
  }
  void gate_backward(Lane, const GateRule&, const GateInput&, const GateTensors&, const GateLossScales&,
                     const GateGradients&) override {
    never();
  }
  void permute(Lane, Tensor, Tensor, Tensor) override { never(); }
  void permute_backward(Lane, Tensor, Tensor, Tensor, bool) override { never(); }
  void unpermute(Lane, Tensor, Tensor, Tensor, Tensor, bool) override { never(); }
  void unpermute_backward(Lane, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override { never(); }
  void adamw(Lane, const AdamWStep&, Tensor, Tensor, Tensor, Tensor, Tensor) override { never(); }
  void follow_load(Lane, double, double, Tensor, Tensor, Tensor) override { never(); }
  void squared_norm(Lane, Tensor, Tensor, bool) override { never(); }

 private:
  static void never() { ASSERT(false, "the fake backend has no kernels"); }
  static Error none() { return {ErrorKind::Unavailable, "", "the fake backend has no memory"}; }

  mutable std::mutex mutex_;
  std::map<Lane, std::vector<std::string>> log_;
  int reserved_ = 0;
  std::map<Lane, Duration> lane_time_;
  std::map<int, Duration> event_time_;
};

}  // namespace moecast::testing
