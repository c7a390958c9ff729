#include "tests/sim/hand_plan_testing.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/random.h"

namespace moecast {

OpId HandPlan::compute(std::int64_t ns, std::vector<OpId> dependencies) {
  Operator op;
  op.id = OpId(static_cast<std::int32_t>(plan.operators.size()));
  op.kind = OpKind::Mlp;
  op.dependencies = std::move(dependencies);
  plan.operators.push_back(op);
  costs.operators.push_back({Duration(ns)});
  return op.id;
}

OpId HandPlan::collective(Group group, std::int64_t latency_ns, double bytes, std::vector<OpId> dependencies, Lane lane,
                          double efficiency) {
  const OpId id = compute(latency_ns, std::move(dependencies));
  Operator& op = plan.operators.back();
  op.kind = OpKind::Dispatch;
  op.lane = lane;
  op.communication = Communication{Collective::AllToAll, group, Bytes(static_cast<std::int64_t>(bytes))};
  costs.operators.back().port_bytes = bytes;
  costs.operators.back().rate = costs.port.value() * efficiency;
  return id;
}

std::vector<Span> HandPlan::run(const ParallelLayout& layout, ExecutionOptions options) const {
  std::vector<Span> spans;
  StepExecutor(plan, layout, costs, std::move(options)).run(spans);
  return spans;
}

HandPlan random_plan(std::uint64_t seed, std::int32_t op_count, bool copies) {
  const CounterRandom random(seed, 0);
  HandPlan hand;
  for (std::int32_t i = 0; i < op_count; ++i) {
    std::uint64_t next_draw = 0;
    const auto draw = [&](std::int64_t bound) {
      return random.below(bound, static_cast<std::uint64_t>(i), next_draw++);
    };
    std::vector<OpId> dependencies;
    for (std::int64_t d = i == 0 ? 0 : draw(3); d > 0; --d) {
      dependencies.emplace_back(static_cast<std::int32_t>(i - 1 - draw(std::min(i, 8))));
    }
    std::sort(dependencies.begin(), dependencies.end());
    dependencies.erase(std::unique(dependencies.begin(), dependencies.end()), dependencies.end());
    if (draw(5) < 3) {
      hand.compute(draw(4) == 0 ? 0 : draw(200), dependencies);
    } else {
      const Group group = draw(3) == 0 ? Group::Data : Group::Expert;
      const Lane lane = copies && draw(3) == 0 ? Lane::CopyOut : Lane::Comm;
      const double bytes = draw(6) == 0 ? 0 : static_cast<double>(draw(150));
      hand.collective(group, draw(2) == 0 ? 0 : draw(20), bytes, dependencies, lane, draw(2) == 0 ? 0.5 : 1.0);
    }
  }
  return hand;
}

namespace {

/// One rank of tick_by_tick.
struct Worker {
  std::vector<bool> begun, done;
  std::vector<double> left;  // nanoseconds of compute, of latency
  std::size_t done_count = 0;
  std::int32_t step = 0;
};

class Ticks {
 public:
  Ticks(const HandPlan& hand, const ParallelLayout& layout, const ExecutionOptions& options)
      : hand_(hand), layout_(layout), options_(options), workers_(static_cast<std::size_t>(layout.world_size())) {
    for (Worker& worker : workers_) restart(worker);
    for (const Operator& op : hand.plan.operators) {
      for (std::size_t r = 0; r < workers_.size(); ++r) {
        std::vector<std::size_t>& group = members_.emplace_back();
        if (!op.communication) continue;
        for (const Rank rank : layout.members(op.communication->group, Rank(static_cast<std::int32_t>(r)))) {
          group.push_back(rank.index());
        }
      }
    }
  }

  std::vector<Span> run() {
    while (!happen()) {
      move();
      ++now_;
    }
    std::stable_sort(spans_.begin(), spans_.end(), [](const Span& a, const Span& b) {
      return std::tuple(a.step, a.rank, a.lane, a.op) < std::tuple(b.step, b.rank, b.lane, b.op);
    });
    return spans_;
  }

 private:
  [[nodiscard]] std::size_t count() const { return hand_.plan.operators.size(); }
  [[nodiscard]] Instant now() const { return Instant(Duration(now_)); }

  void restart(Worker& worker) const {
    worker.begun.assign(count(), false);
    worker.done.assign(count(), false);
    worker.left.assign(count(), 0);
    worker.done_count = 0;
  }

  /// Everything that can happen now; true when all is over.
  bool happen() {
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t r = 0; r < workers_.size(); ++r) {
        for (std::size_t i = 0; i < count(); ++i) changed = try_begin(r, i) || try_end(r, i) || changed;
      }
      for (Worker& worker : workers_) {
        if (worker.done_count != count() || worker.step + 1 == options_.steps) continue;
        restart(worker);
        ++worker.step;
        changed = true;
      }
    }
    return std::all_of(workers_.begin(), workers_.end(), [&](const Worker& w) { return w.done_count == count(); });
  }

  bool try_begin(std::size_t r, std::size_t i) {
    Worker& worker = workers_[r];
    if (worker.begun[i]) return false;
    const Operator& op = hand_.plan.operators[i];
    for (std::size_t before = 0; before < i; ++before) {
      if (hand_.plan.operators[before].lane == op.lane && !worker.done[before]) return false;
    }
    for (const OpId dependency : op.dependencies) {
      if (!worker.done[dependency.index()]) return false;
    }
    worker.begun[i] = true;
    worker.left[i] = static_cast<double>(hand_.costs.operators[i].fixed.count());
    if (op.lane == Lane::Compute && !options_.slowdown.empty()) worker.left[i] *= options_.slowdown[r];
    spans_.push_back({op.id, Rank(static_cast<std::int32_t>(r)), op.lane, worker.step, now(), {}});
    return true;
  }

  bool try_end(std::size_t r, std::size_t i) {
    Worker& worker = workers_[r];
    if (!worker.begun[i] || worker.done[i] || worker.left[i] > 1e-6) return false;
    if (meets(i)) {
      if (!opened(r, i) || bytes_left(r, i) > 1e-6) return false;
      for (const std::size_t member : members(r, i)) finish(member, i);
      bytes_.erase(key(r, i));
    } else {
      finish(r, i);
    }
    return true;
  }

  void finish(std::size_t r, std::size_t i) {
    workers_[r].done[i] = true;
    ++workers_[r].done_count;
    for (Span& span : spans_) {
      if (span.op.index() == i && span.rank.index() == r && span.step == workers_[r].step) span.end = now();
    }
  }

  /// One nanosecond passes.
  void move() {
    const Interference& interference = hand_.costs.interference;
    std::vector<bool> moving(workers_.size(), false), computing(workers_.size(), false);
    for_each_at_work([&](std::size_t r, std::size_t i) {
      if (!meets(i) && is_compute(i)) computing[r] = true;
      if (meets(i) && opened(r, i)) moving[r] = true;
    });
    std::map<std::pair<std::size_t, std::size_t>, double> moved;
    for_each_at_work([&](std::size_t r, std::size_t i) {
      Worker& worker = workers_[r];
      if (!meets(i)) {
        worker.left[i] -= is_compute(i) && moving[r] ? 1 / interference.compute_beside_communication : 1;
      } else if (!opened(r, i)) {
        if (all_begun(r, i)) worker.left[i] -= 1;
      } else {
        const std::vector<std::size_t>& group = members(r, i);
        const bool slow = std::any_of(group.begin(), group.end(), [&](std::size_t m) { return computing[m]; });
        const double rate = hand_.costs.operators[i].rate * 1e-9;
        moved[key(r, i)] = slow ? rate / interference.communication_beside_compute : rate;
      }
    });
    for (const auto& [meeting, bytes] : moved) bytes_.at(meeting) -= bytes;
  }

  template <typename Visit>
  void for_each_at_work(Visit visit) {
    for (std::size_t r = 0; r < workers_.size(); ++r) {
      for (std::size_t i = 0; i < count(); ++i) {
        if (workers_[r].begun[i] && !workers_[r].done[i]) visit(r, i);
      }
    }
  }

  [[nodiscard]] bool is_compute(std::size_t i) const { return hand_.plan.operators[i].lane == Lane::Compute; }
  [[nodiscard]] bool meets(std::size_t i) const {
    const auto& communication = hand_.plan.operators[i].communication;
    return communication && layout_.group_size(communication->group) > 1;
  }
  [[nodiscard]] const std::vector<std::size_t>& members(std::size_t r, std::size_t i) const {
    return members_[i * workers_.size() + r];
  }
  [[nodiscard]] std::pair<std::size_t, std::size_t> key(std::size_t r, std::size_t i) const {
    return {members(r, i).front(), i};
  }
  [[nodiscard]] bool all_begun(std::size_t r, std::size_t i) const {
    const std::vector<std::size_t>& group = members(r, i);
    return std::all_of(group.begin(), group.end(), [&](std::size_t m) {
      return workers_[m].begun[i] && !workers_[m].done[i] && workers_[m].step == workers_[r].step;
    });
  }
  [[nodiscard]] bool opened(std::size_t r, std::size_t i) const {
    return all_begun(r, i) && workers_[r].left[i] <= 1e-6;
  }

  double bytes_left(std::size_t r, std::size_t i) {
    return bytes_.try_emplace(key(r, i), hand_.costs.operators[i].port_bytes).first->second;
  }

  const HandPlan& hand_;
  const ParallelLayout& layout_;
  const ExecutionOptions& options_;
  std::vector<Worker> workers_;
  std::vector<std::vector<std::size_t>> members_;  // [operator][rank]: of its group
  std::map<std::pair<std::size_t, std::size_t>, double> bytes_;
  std::vector<Span> spans_;
  std::int64_t now_ = 0;
};

}  // namespace

std::vector<Span> tick_by_tick(const HandPlan& hand, const ParallelLayout& layout, const ExecutionOptions& options) {
  return Ticks(hand, layout, options).run();
}

std::string to_text(const std::vector<Span>& spans) {
  std::string text;
  for (const Span& span : spans) {
    text += fmt::format("{} r{} op{} {}..{}\n", span.step, span.rank.value(), span.op.value(),
                        span.start.time_since_epoch().count(), span.end.time_since_epoch().count());
  }
  return text;
}

}  // namespace moecast
