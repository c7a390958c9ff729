#include "tests/runtime/queued_backend_testing.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/cpu/cpu_backend.h"
#include "runtime/executor_guard.h"

namespace moecast::testing {
namespace {

using Rows = std::vector<std::int64_t>;
using SteadyTime = std::chrono::steady_clock::time_point;

/// Works off what it is given, in order, on a thread of its own.
class Queue {
 public:
  Queue() : worker_([this](const std::stop_token& stop) { work(stop); }) {}
  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void wait_until_idle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
  }

 private:
  void work(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return !tasks_.empty(); })) {
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      busy_ = true;
      lock.unlock();
      task();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false;
  std::jthread worker_;
};

/// Recorded as often as it was asked for, happened as often as a queue has come to it.
struct Event {
  std::uint64_t recorded = 0, happened = 0;
  SteadyTime at{};
};

class QueuedBackend final : public Backend {
 public:
  ~QueuedBackend() override {
    for (Queue& queue : queues_) queue.wait_until_idle();
  }

  std::string name() const override { return "queued"; }
  std::string device_name() const override { return cpu_->device_name(); }
  bool asynchronous() const override { return true; }
  Result<std::unique_ptr<DeviceMemory>> allocate(Bytes size) override { return cpu_->allocate(size); }
  Result<std::unique_ptr<DeviceMemory>> allocate_host(Bytes size) override { return cpu_->allocate_host(size); }
  Status check() override { return cpu_->check(); }

  void copy(Lane lane, Tensor destination, Tensor source) override {
    issue(lane, [this, lane, destination, source] { cpu_->copy(lane, destination, source); });
  }
  void upload(Lane lane, Tensor destination, const void* source) override {
    issue(lane, [this, lane, destination, source] { cpu_->upload(lane, destination, source); });
  }
  void download(Lane lane, void* destination, Tensor source) override {
    issue(lane, [this, lane, destination, source] { cpu_->download(lane, destination, source); });
  }
  void synchronize(Lane lane) override { queue(lane).wait_until_idle(); }

  void reserve_events(int capacity) override {
    const std::lock_guard lock(mutex_);
    events_.resize(static_cast<std::size_t>(capacity));
  }
  void record_event(Lane lane, int index) override {
    {
      const std::lock_guard lock(mutex_);
      ++event(index).recorded;
    }
    issue(lane, [this, index] {
      const std::lock_guard lock(mutex_);
      ++event(index).happened;
      event(index).at = std::chrono::steady_clock::now();
      happened_.notify_all();
    });
  }
  void wait_event(Lane lane, int index) override {
    std::uint64_t wanted = 0;
    {
      const std::lock_guard lock(mutex_);
      wanted = event(index).recorded;
      ASSERT(wanted > 0, "event {} was never recorded", index);
    }
    issue(lane, [this, index, wanted] {
      std::unique_lock lock(mutex_);
      happened_.wait(lock, [&] { return event(index).happened >= wanted; });
    });
  }
  Duration elapsed(int from, int to) override {
    const std::lock_guard lock(mutex_);
    return std::chrono::duration_cast<Duration>(event(to).at - event(from).at);
  }

  void fill(Lane lane, Tensor y, double value) override {
    issue(lane, [this, lane, y, value] { cpu_->fill(lane, y, value); });
  }
  void add(Lane lane, Tensor y, Tensor x) override {
    issue(lane, [this, lane, y, x] { cpu_->add(lane, y, x); });
  }
  void cast(Lane lane, Tensor y, Tensor x) override {
    issue(lane, [this, lane, y, x] { cpu_->cast(lane, y, x); });
  }
  void add_scaled_rows(Lane lane, Tensor y, Tensor x, Tensor c) override {
    issue(lane, [this, lane, y, x, c] { cpu_->add_scaled_rows(lane, y, x, c); });
  }
  void scaled_rows_backward(Lane lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) override {
    issue(lane, [this, lane, dy, x, c, dx, dc] { cpu_->scaled_rows_backward(lane, dy, x, c, dx, dc); });
  }
  void sigmoid(Lane lane, Tensor c) override {
    issue(lane, [this, lane, c] { cpu_->sigmoid(lane, c); });
  }
  void sigmoid_backward(Lane lane, Tensor c, Tensor dc) override {
    issue(lane, [this, lane, c, dc] { cpu_->sigmoid_backward(lane, c, dc); });
  }
  void gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) override {
    issue(lane, [this, lane, transpose_a, transpose_b, a, b, y, accumulate] {
      cpu_->gemm(lane, transpose_a, transpose_b, a, b, y, accumulate);
    });
  }
  void grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                    Tensor y) override {
    issue(lane, [this, lane, x, w, transpose_w, rows = Rows(offsets.begin(), offsets.end()), y] {
      cpu_->grouped_gemm(lane, x, w, transpose_w, rows, y);
    });
  }
  void grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets, Tensor dw) override {
    issue(lane, [this, lane, x, dy, rows = Rows(offsets.begin(), offsets.end()), dw] {
      cpu_->grouped_gemm_weight(lane, x, dy, rows, dw);
    });
  }
  void bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) override {
    issue(lane, [this, lane, x, b, rows = Rows(offsets.begin(), offsets.end())] { cpu_->bias_add(lane, x, b, rows); });
  }
  void bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) override {
    issue(lane, [this, lane, dx, rows = Rows(offsets.begin(), offsets.end()), db] {
      cpu_->bias_gradient(lane, dx, rows, db);
    });
  }
  void activation(Lane lane, Activation kind, Tensor pre, Tensor out) override {
    issue(lane, [this, lane, kind, pre, out] { cpu_->activation(lane, kind, pre, out); });
  }
  void activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) override {
    issue(lane, [this, lane, kind, pre, dout, dpre] { cpu_->activation_backward(lane, kind, pre, dout, dpre); });
  }
  void norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
            Tensor rstd) override {
    issue(lane, [this, lane, kind, x, gain, bias, epsilon, y, mean, rstd] {
      cpu_->norm(lane, kind, x, gain, bias, epsilon, y, mean, rstd);
    });
  }
  void norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd, Tensor dx,
                     bool accumulate, Tensor dgain, Tensor dbias) override {
    issue(lane, [this, lane, kind, dy, x, gain, mean, rstd, dx, accumulate, dgain, dbias] {
      cpu_->norm_backward(lane, kind, dy, x, gain, mean, rstd, dx, accumulate, dgain, dbias);
    });
  }
  void attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) override {
    issue(lane,
          [this, lane, shape = shape, qkv, out, log_sum_exp] { cpu_->attention(lane, shape, qkv, out, log_sum_exp); });
  }
  void attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                          Tensor dout, Tensor dqkv) override {
    issue(lane, [this, lane, shape = shape, qkv, out, log_sum_exp, dout, dqkv] {
      cpu_->attention_backward(lane, shape, qkv, out, log_sum_exp, dout, dqkv);
    });
  }
  void rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) override {
    issue(lane, [this, lane, shape = shape, theta, qkv, inverse] { cpu_->rope(lane, shape, theta, qkv, inverse); });
  }
  void embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) override {
    issue(lane, [this, lane, ids, tokens, positions, sequence, out] {
      cpu_->embedding(lane, ids, tokens, positions, sequence, out);
    });
  }
  void embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                          Tensor dpositions) override {
    issue(lane, [this, lane, ids, dout, sequence, dtokens, dpositions] {
      cpu_->embedding_backward(lane, ids, dout, sequence, dtokens, dpositions);
    });
  }
  void cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) override {
    issue(lane,
          [this, lane, logits, targets, scale, loss] { cpu_->cross_entropy(lane, logits, targets, scale, loss); });
  }
  void gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, Tensor logits,
            const GateTensors& out) override {
    issue(lane,
          [this, lane, rule = rule, capacity, logits, out = out] { cpu_->gate(lane, rule, capacity, logits, out); });
  }
  void gate_backward(Lane lane, const GateRule& rule, const GateTensors& saved, Tensor dweight, double balance_scale,
                     Tensor dlogits) override {
    issue(lane, [this, lane, rule = rule, saved = saved, dweight, balance_scale, dlogits] {
      cpu_->gate_backward(lane, rule, saved, dweight, balance_scale, dlogits);
    });
  }
  void permute(Lane lane, Tensor x, Tensor row, Tensor out) override {
    issue(lane, [this, lane, x, row, out] { cpu_->permute(lane, x, row, out); });
  }
  void permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) override {
    issue(lane, [this, lane, dout, row, dx, accumulate] { cpu_->permute_backward(lane, dout, row, dx, accumulate); });
  }
  void unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) override {
    issue(lane, [this, lane, rows, row, weight, out, accumulate] {
      cpu_->unpermute(lane, rows, row, weight, out, accumulate);
    });
  }
  void unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                          Tensor dweight) override {
    issue(lane, [this, lane, dout, rows, row, weight, drows, dweight] {
      cpu_->unpermute_backward(lane, dout, rows, row, weight, drows, dweight);
    });
  }
  void adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
             Tensor second_moment, Tensor weight) override {
    issue(lane, [this, lane, step = step, master, gradient, first_moment, second_moment, weight] {
      cpu_->adamw(lane, step, master, gradient, first_moment, second_moment, weight);
    });
  }
  void squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) override {
    issue(lane, [this, lane, x, out, accumulate] { cpu_->squared_norm(lane, x, out, accumulate); });
  }

  void issue(Lane lane, std::function<void()> task) { queue(lane).push(std::move(task)); }

 private:
  Queue& queue(Lane lane) { return queues_[lane_index(lane)]; }
  Event& event(int index) { return events_.at(static_cast<std::size_t>(index)); }

  std::unique_ptr<Backend> cpu_ = make_cpu_backend();
  std::mutex mutex_;
  std::condition_variable happened_;
  std::vector<Event> events_;
  std::array<Queue, kLaneCount> queues_;  // last: their threads end before what they use
};

}  // namespace

std::unique_ptr<Backend> make_queued_backend() { return std::make_unique<QueuedBackend>(); }

void queue_task(Backend& backend, Lane lane, std::function<void()> task) {
  dynamic_cast<QueuedBackend&>(backend).issue(lane, std::move(task));
}

}  // namespace moecast::testing
