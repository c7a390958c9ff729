#include "runtime/trainer/director.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "runtime/trainer/slot_choice.h"

namespace moecast {
namespace {

/// Of an even number the larger of the middle two.
Duration upper_median(std::vector<Duration> times) {
  const auto middle = times.begin() + std::ssize(times) / 2;
  std::ranges::nth_element(times, middle);
  return *middle;
}

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
  if (options.inventory != nullptr) {
    checkpoints_.emplace(config_, *options.inventory, log_);
    resumes_ = config_.checkpoint->resume;
  }
}

Task Director::next(Outcomes outcomes) {
  if (checkpoints_) checkpoints_->hear(outcomes);
  if (!started_) {
    started_ = true;
    current_ = first_task();
  } else if (!failure_) {
    finish(outcomes);
  }
  if (failure_) current_ = Task{};
  began_ = clock_.now();
  return current_;
}

Task Director::first_task() const {
  if (!checkpoints_) return train_task();
  Task open;
  open.kind = Task::Kind::Open;
  open.resume = resumes_;
  return open;
}

void Director::finish(Outcomes outcomes) {
  switch (current_.kind) {
    case Task::Kind::Open:
      return finish_open(outcomes);
    case Task::Kind::Train:
      return finish_step(outcomes);
    case Task::Kind::Validate:
      return finish_validation(outcomes);
    case Task::Kind::Drain:
      return finish_drain();
    case Task::Kind::End:
      return;
  }
}

void Director::finish_open(Outcomes outcomes) {
  if (!current_.resume) return go_on();
  const Result<std::int64_t> updates = checkpoints_->restored(outcomes);
  if (!updates.ok()) return fail(updates.error());
  if (!ran_) result_.first_step = *updates;
  ran_ = true;
  forget_steps_from(*updates);
  go_on();
}

/// The state after `updates_` updates is what all ranks have.
void Director::go_on() {
  ran_ = true;
  if (checkpoints_ && checkpoints_->must_settle()) {
    current_ = Task{Task::Kind::Drain};
    return;
  }
  current_ = updates_ == config_.steps ? validate_task(0) : train_task();
  if (checkpoints_) current_.snapshot = checkpoints_->order(updates_);
}

void Director::finish_drain() {
  if (end_) return fail(*end_);
  if (validated_) {
    current_ = Task{};
  } else {
    go_on();
  }
}

bool Director::recover(const Fault& fault) {
  if (!checkpoints_ || !failure_) return false;
  const double ranks = static_cast<double>(config_.workload.layout.world_size());
  const double lost = fault.kind == FaultKind::LoseNode ? static_cast<double>(fault.ranks.size()) / ranks : 0;
  checkpoints_->failed(fault.text(), updates_, lost);
  failure_.reset();
  started_ = false;
  resumes_ = true;
  return true;
}

/// They are done again.
void Director::forget_steps_from(std::int64_t updates) {
  updates_ = updates;
  const auto kept = static_cast<std::size_t>(std::max<std::int64_t>(0, updates - result_.first_step));
  result_.first_step = std::min(result_.first_step, updates);
  result_.loss.resize(std::min(result_.loss.size(), kept));
  result_.steps.resize(std::min(result_.steps.size(), kept));
  for (Timeline* timeline : {&slot_timeline_, &result_.timeline}) {
    std::erase_if(timeline->spans, [&](const Span& span) { return span.step >= updates; });
  }
  validation_sum_ = 0;
  validation_tokens_ = 0;
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
  result_.tokens_per_second = tokens_per_second();
  if (checkpoints_) {
    result_.checkpoints = checkpoints_->take_report();
    result_.checkpoints->forward_backward = forward_backward();
    result_.checkpoints->shortest_interval = shortest_interval(*result_.checkpoints);
  }
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
  ++updates_;
  if (checkpoints_) checkpoints_->count(outcomes);
  const StepRecord& step = result_.steps.back();
  if (on_step_) on_step_({updates_, config_.steps, step.loss, step.time});
  if (stop_) return stop();
  if (measures_slots() && !chose_slots_ && updates_ == result_.first_step + kSlotSteps) choose_slots();
  if (!failure_) go_on();
}

void Director::stop() {
  end_ = Error{ErrorKind::Interrupted, "", fmt::format("stopped after step {} of {}", updates_, config_.steps)};
  if (!checkpoints_) return fail(*end_);
  current_ = Task{Task::Kind::Drain};
}

void Director::record(Outcomes outcomes) {
  StepRecord step;
  double tokens = 0;
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    step.loss += outcome->loss_sum;
    step.balance_loss += outcome->balance_loss / static_cast<double>(outcomes.size());
    for (double RouterLosses::*each : {&RouterLosses::importance, &RouterLosses::load, &RouterLosses::z}) {
      step.router_losses.*each += outcome->router_losses.*each / static_cast<double>(outcomes.size());
    }
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
  for (std::size_t block = 0; block < routed_.size(); ++block) {
    const std::size_t choices = outcomes.front()->routed[block].size();
    if (choices == 0) continue;
    LayerTokens tokens{LayerId(static_cast<std::int32_t>(block)), std::vector<std::int64_t>(choices), 0};
    for (const std::optional<StepOutcome>& outcome : outcomes) {
      for (std::size_t e = 0; e < choices; ++e) tokens.routed[e] += outcome->routed[block][e];
      tokens.dropped += outcome->dropped[block];
    }
    routed_[block].resize(choices);
    for (std::size_t e = 0; e < choices; ++e) routed_[block][e] += static_cast<double>(tokens.routed[e]);
    dropped_[block] += static_cast<double>(tokens.dropped);
    result_.steps.back().tokens.push_back(std::move(tokens));
  }
}

void Director::add_spans(Outcomes outcomes, Timeline& timeline) const {
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    timeline.spans.insert(timeline.spans.end(), outcome->spans.begin(), outcome->spans.end());
  }
}

void Director::keep_timeline(Outcomes outcomes) {
  const std::int64_t done = current_.index - result_.first_step;
  if (measures_slots() && kColdSteps <= done && done < kSlotSteps) add_spans(outcomes, slot_timeline_);
  const std::int64_t steady = done - first_steady_step();
  if (0 <= steady && steady < kTimelineSteps) add_spans(outcomes, result_.timeline);
}

double Director::tokens_per_second() const {
  Duration time{};
  std::int64_t steps = 0;
  for (std::size_t i = static_cast<std::size_t>(first_steady_step()); i < result_.steps.size(); ++i, ++steps) {
    time += result_.steps[i].time;
  }
  const Batch& batch = config_.workload.batch;
  const double tokens =
      static_cast<double>(steps * batch.tokens() * batch.micro_batch_count * config_.workload.layout.data);
  return tokens / std::max(seconds(time), 1e-9);
}

/// What writing the slowest checkpoint took, in median steps.
std::optional<std::int64_t> Director::shortest_interval(const CheckpointReport& report) const {
  const auto replaced = [](const SavedCheckpoint& saved) { return saved.kind == CheckpointOutcome::Kind::Replaced; };
  if (std::ranges::none_of(report.saved, replaced) || result_.steps.empty()) return std::nullopt;
  Duration persist{};
  for (const SavedCheckpoint& saved : report.saved) persist = std::max(persist, saved.persist);
  std::vector<Duration> times;
  for (const StepRecord& step : result_.steps) times.push_back(step.time);
  return static_cast<std::int64_t>(
      std::ceil(seconds(persist) / std::max(1e-9, seconds(upper_median(std::move(times))))));
}

/// Median over steps and ranks of the time from the first operator's start to the update's.
Duration Director::forward_backward() const {
  std::map<std::pair<std::int32_t, std::int32_t>, std::pair<Instant, Instant>> of_step;  // (step, rank): first, update
  for (const Span& span : result_.timeline.spans) {
    auto& [first, update] = of_step.try_emplace({span.step, span.rank.value()}, span.start, span.start).first->second;
    first = std::min(first, span.start);
    if (plan_.operators[span.op.index()].kind == OpKind::Optimizer) update = span.start;
  }
  std::vector<Duration> times;
  for (const auto& [key, ends] : of_step) times.push_back(ends.second - ends.first);
  return times.empty() ? Duration{} : upper_median(std::move(times));
}

void Director::choose_slots() {
  Result<StepPlan> plan = plan_with_best_slots(config_.workload, slot_timeline_);
  if (!plan.ok()) return fail(plan.error());
  plan_ = std::move(plan).value();
  chose_slots_ = true;
  log_.info("expert slots chosen from {} measured steps: forward {}, backward {}", kSlotSteps - kColdSteps,
            plan_.schedule.forward_slot.value_or(1), plan_.schedule.backward_slot.value_or(1));
}

Task Director::train_task() const {
  const OptimizerConfig& config = config_.optimizer;
  AdamWStep optimizer;
  optimizer.learning_rate = learning_rate_.at(updates_);
  optimizer.beta1 = config.beta1;
  optimizer.beta2 = config.beta2;
  optimizer.epsilon = config.epsilon;
  optimizer.weight_decay = config.weight_decay;
  optimizer.step = updates_ + 1;
  return {Task::Kind::Train, updates_, &plan_, optimizer};
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
  if (next < validation_batch_count()) {
    current_ = validate_task(next);
  } else {
    validated_ = true;
    current_ = Task{checkpoints_ ? Task::Kind::Drain : Task::Kind::End};
  }
}

std::int64_t Director::first_steady_step() const {
  const std::int64_t warm = measures_slots() ? kSlotSteps + 1 : kColdSteps;
  return std::min(warm, config_.steps - result_.first_step - 1);
}

std::int64_t Director::validation_batch_count() const {
  const Workload& workload = config_.workload;
  const std::int64_t sequences = workload.layout.data * workload.batch.micro_batch * workload.batch.micro_batch_count;
  const std::int64_t windows = validation_window_count(text_, workload.batch.sequence);
  return std::clamp<std::int64_t>(windows / sequences, 1, kValidationBatches);
}

/// A run too short to use what it would measure keeps slot 1.
bool Director::measures_slots() const {
  return has_open_slot(config_.workload.schedule) && config_.steps - result_.first_step > kSlotSteps;
}

}  // namespace moecast
