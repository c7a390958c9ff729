#include "runtime/trainer/director.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/trainer/slot_choice.h"

namespace moecast {
namespace {

constexpr std::int64_t kColdSteps = 2;  // caches, page faults, threads that start
constexpr std::int64_t kSlotSteps = 6;  // run with slot 1 before an open slot is chosen; the cold ones not counted
constexpr std::int64_t kValidationBatches = 8;  // at most

}  // namespace

Director::Director(const Options& options, StepPlan first_plan)
    : config_(options.config),
      text_(options.text),
      clock_(options.clock),
      log_(options.log),
      on_step_(options.on_step),
      stop_(options.stop),
      learning_rate_{config_.optimizer.learning_rate, config_.optimizer.min_learning_rate,
                     config_.optimizer.warmup_steps, config_.steps},
      plan_(std::move(first_plan)),
      routed_(config_.workload.model.blocks.size()),
      dropped_(config_.workload.model.blocks.size(), 0.0) {
  slot_timeline_.plan = plan_;
  slot_timeline_.rank_count = config_.workload.layout.world_size();
  result_.unigram_entropy = unigram_entropy(text_.bytes);
}

Task Director::next(Outcomes outcomes) {
  if (!started_) {
    started_ = true;
    current_ = train_task();
  } else if (!failure_ && current_.kind == Task::Kind::Train) {
    finish_step(outcomes);
  } else if (!failure_ && current_.kind == Task::Kind::Validate) {
    finish_validation(outcomes);
  }
  if (failure_) current_ = Task{};
  began_ = clock_.now();
  return current_;
}

void Director::fail(const Error& error) {
  if (!failure_) failure_ = error;
}

Result<TrainResult> Director::take_result() {
  if (failure_) return *failure_;
  result_.schedule = plan_.schedule;
  result_.timeline.plan = plan_;
  result_.timeline.rank_count = config_.workload.layout.world_size();
  result_.validation_loss = validation_sum_ / static_cast<double>(validation_tokens_);
  for (std::size_t block = 0; block < routed_.size(); ++block) {
    if (routed_[block].empty()) continue;
    double total = 0;
    for (const double count : routed_[block]) total += count;
    ExpertLoad load{LayerId(static_cast<std::int32_t>(block)), routed_[block], dropped_[block] / total};
    for (double& share : load.share) share /= total;
    result_.expert_load.push_back(std::move(load));
  }
  return std::move(result_);
}

void Director::finish_step(Outcomes outcomes) {
  record(outcomes);
  if (failure_) return;
  add_load(outcomes);
  keep_timeline(outcomes);
  const StepRecord& step = result_.steps.back();
  if (on_step_) on_step_({current_.index + 1, config_.steps, step.loss, step.time});
  if (stop_) {
    return fail(
        {ErrorKind::Interrupted, "", fmt::format("stopped after step {} of {}", current_.index + 1, config_.steps)});
  }
  if (current_.index + 1 == config_.steps) {
    current_ = validate_task(0);
    return;
  }
  if (measures_slots() && current_.index + 1 == kSlotSteps) choose_slots();
  ++current_.index;
  current_ = train_task();
}

void Director::record(Outcomes outcomes) {
  StepRecord step;
  double tokens = 0;
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    step.loss += outcome->loss_sum;
    step.balance_loss += outcome->balance_loss / static_cast<double>(outcomes.size());
    tokens += static_cast<double>(outcome->token_count);
  }
  step.loss /= tokens;
  step.gradient_norm = outcomes.front()->gradient_norm;
  step.learning_rate = current_.optimizer.learning_rate;
  step.time = clock_.now() - began_;
  if (!std::isfinite(step.loss) || !std::isfinite(step.gradient_norm)) {
    return fail({ErrorKind::RunFailed, fmt::format("step {}", current_.index + 1),
                 fmt::format("training diverged: loss {}, gradient norm {}; a smaller learning rate or a gradient clip "
                             "may help",
                             step.loss, step.gradient_norm)});
  }
  result_.loss.push_back(step.loss);
  result_.steps.push_back(step);
}

void Director::add_load(Outcomes outcomes) {
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    for (std::size_t block = 0; block < routed_.size(); ++block) {
      const std::vector<std::int64_t>& counts = outcome->routed[block];
      routed_[block].resize(counts.size());
      for (std::size_t e = 0; e < counts.size(); ++e) routed_[block][e] += static_cast<double>(counts[e]);
      dropped_[block] += static_cast<double>(outcome->dropped[block]);
    }
  }
}

void Director::add_spans(Outcomes outcomes, Timeline& timeline) const {
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    timeline.spans.insert(timeline.spans.end(), outcome->spans.begin(), outcome->spans.end());
  }
}

void Director::keep_timeline(Outcomes outcomes) {
  if (measures_slots() && kColdSteps <= current_.index && current_.index < kSlotSteps) {
    add_spans(outcomes, slot_timeline_);
  }
  const std::int64_t steady = current_.index - first_steady_step();
  if (steady < 0) return;
  if (steady < kTimelineSteps) add_spans(outcomes, result_.timeline);
  steady_time_ += result_.steps.back().time;
  const Batch& batch = config_.workload.batch;
  const double tokens =
      static_cast<double>((steady + 1) * batch.tokens() * batch.micro_batch_count * config_.workload.layout.data);
  result_.tokens_per_second = tokens / std::max(seconds(steady_time_), 1e-9);
}

void Director::choose_slots() {
  Result<StepPlan> plan = plan_with_best_slots(config_.workload, slot_timeline_);
  if (!plan.ok()) return fail(plan.error());
  plan_ = std::move(plan).value();
  log_.info("expert slots chosen from {} measured steps: forward {}, backward {}", kSlotSteps - kColdSteps,
            plan_.schedule.forward_slot.value_or(1), plan_.schedule.backward_slot.value_or(1));
}

Task Director::train_task() const {
  const OptimizerConfig& config = config_.optimizer;
  AdamWStep optimizer;
  optimizer.learning_rate = learning_rate_.at(current_.index);
  optimizer.beta1 = config.beta1;
  optimizer.beta2 = config.beta2;
  optimizer.epsilon = config.epsilon;
  optimizer.weight_decay = config.weight_decay;
  optimizer.step = current_.index + 1;
  return {Task::Kind::Train, current_.index, &plan_, optimizer};
}

Task Director::validate_task(std::int64_t batch) {
  if (batch == 0) forward_plan_ = forward_plan(plan_);
  return {Task::Kind::Validate, batch, &forward_plan_, {}};
}

void Director::finish_validation(Outcomes outcomes) {
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    validation_sum_ += outcome->loss_sum;
    validation_tokens_ += outcome->token_count;
  }
  const std::int64_t next = current_.index + 1;
  current_ = next < validation_batch_count() ? validate_task(next) : Task{};
}

std::int64_t Director::first_steady_step() const {
  const std::int64_t warm = measures_slots() ? kSlotSteps + 1 : kColdSteps;
  return std::min(warm, config_.steps - 1);
}

std::int64_t Director::validation_batch_count() const {
  const Workload& workload = config_.workload;
  const std::int64_t sequences = workload.layout.data * workload.batch.micro_batch * workload.batch.micro_batch_count;
  const std::int64_t windows = validation_window_count(text_, workload.batch.sequence);
  return std::clamp<std::int64_t>(windows / sequences, 1, kValidationBatches);
}

/// A run too short to use what it would measure keeps slot 1.
bool Director::measures_slots() const { return has_open_slot(config_.workload.schedule) && config_.steps > kSlotSteps; }

}  // namespace moecast
