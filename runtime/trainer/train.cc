#include "runtime/trainer/train.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/trainer/director.h"
#include "runtime/trainer/slot_choice.h"

namespace moecast {
namespace {

constexpr std::int64_t kMaxRanks = 256;  // threads of one process

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

/// What this build can train.
Status check_runtime(const TrainConfig& config) {
  if (config.runtime.backend == BackendKind::Cuda) {
    return Error{ErrorKind::Unavailable, config.name,
                 "training on the CUDA backend is not connected yet: it needs a communicator between GPU ranks"};
  }
  if (compute_type(config.workload) == DType::BF16) {
    return bad(config.name, "precision bf16: the CPU backend computes in f32 or f64");
  }
  const std::int64_t ranks = config.workload.layout.world_size();
  if (ranks > kMaxRanks) {
    return bad(config.name, fmt::format("{} ranks: at most {} threads stand in for ranks", ranks, kMaxRanks));
  }
  return {};
}

Status check_fault(const TrainConfig& config, const StepPlan& plan) {
  if (!config.runtime.fault) return {};
  const std::string& name = config.runtime.fault->operator_name;
  for (const Operator& op : plan.operators) {
    if (op.name() == name) return {};
  }
  return bad(config.name, fmt::format("fault: the step has no operator \"{}\" (one that it has: \"{}\")", name,
                                      plan.operators.back().name()));
}

std::string timeline_source(const TrainConfig& config) {
  std::string link = "unpaced";
  if (config.runtime.link) {
    link = fmt::format("paced {}, latency {}", to_text(config.runtime.link->bandwidth),
                       to_text(config.runtime.link->latency));
  }
  return fmt::format("measured: cpu x{}, inproc {}", config.workload.layout.world_size(), link);
}

/// Where the ranks meet between tasks. The last to arrive asks the director for the next task.
class MeetingPoint {
 public:
  MeetingPoint(Director& director, std::size_t ranks) : director_(director), outcomes_(ranks) {}

  /// Brings what `rank` got from the last task; returns the next one. A rank that failed brings nothing.
  Task arrive(std::size_t rank, std::optional<StepOutcome> outcome) {
    std::unique_lock lock(mutex_);
    outcomes_[rank] = std::move(outcome);
    if (++arrived_ == outcomes_.size()) {
      arrived_ = 0;
      task_ = next_task();
      ++meeting_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&, meeting = meeting_] { return meeting_ != meeting; });
    }
    return task_;
  }
  /// May be called by any thread at any time.
  void fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    director_.fail(error);
  }

 private:
  /// An exception (the caller's on_step, out of memory) ends the run like any failure: every rank must hear of it.
  Task next_task() {
    try {
      return director_.next(outcomes_);
    } catch (const std::exception& exception) {
      director_.fail({ErrorKind::RunFailed, "between steps", exception.what()});
      return {};
    }
  }

  std::mutex mutex_;  // guards all below, and the director
  std::condition_variable changed_;
  Director& director_;
  std::vector<std::optional<StepOutcome>> outcomes_;
  std::size_t arrived_ = 0;
  std::uint64_t meeting_ = 0;
  Task task_;
};

/// What the rank threads share; borrowed.
struct Run {
  const TrainConfig& config;
  const TokenText& text;
  const std::vector<Groups>& groups;
  const Clock& clock;
  MeetingPoint& meeting;
};

BatchShare share_of(const TrainConfig& config, Rank rank) {
  const Workload& workload = config.workload;
  return {workload.layout.position(Group::Data, rank), workload.layout.data,
          workload.batch.micro_batch * workload.batch.micro_batch_count, workload.batch.sequence};
}

Result<StepOutcome> do_task(const Run& run, const Task& task, Rank rank, RankTrainer& trainer, TokenBatch& batch) {
  const BatchShare share = share_of(run.config, rank);
  if (task.kind == Task::Kind::Train) {
    draw_training_batch(run.text, share, run.config.seed, task.index, batch);
  } else {
    take_validation_batch(run.text, share, task.index, batch);
  }
  // Validation steps go on counting where training ended, so that no fault of a training step strikes again.
  const std::int64_t step = task.kind == Task::Kind::Train ? task.index : run.config.steps + task.index;
  return trainer.run(*task.plan, batch, step, task.optimizer);
}

void run_tasks(const Run& run, Rank rank) {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  const Groups& groups = run.groups[rank.index()];
  RankTrainerOptions options{run.config.workload, rank, *backend, groups, run.clock};
  options.seed = run.config.seed;
  options.gradient_clip = run.config.optimizer.gradient_clip;
  options.fault = run.config.runtime.fault;
  options.on_failure = [&run](const Error& error) { run.meeting.fail(error); };
  Result<std::unique_ptr<RankTrainer>> trainer = RankTrainer::make(options);
  if (!trainer.ok()) run.meeting.fail(trainer.error());

  TokenBatch batch;
  std::optional<StepOutcome> outcome;
  for (Task task = run.meeting.arrive(rank.index(), {}); task.kind != Task::Kind::End;
       task = run.meeting.arrive(rank.index(), std::move(outcome))) {
    outcome.reset();
    Result<StepOutcome> done = do_task(run, task, rank, **trainer, batch);
    if (done.ok()) {
      outcome = std::move(done).value();
    } else {
      run.meeting.fail(done.error());
    }
  }
}

/// A rank whose thread threw outside an operator (out of memory, say) has left the meeting for good: the others must
/// not wait for it.
void run_rank(const Run& run, Rank rank) {
  try {
    run_tasks(run, rank);
  } catch (const std::exception& exception) {
    const Error error{ErrorKind::RunFailed, fmt::format("rank {}", rank.value()), exception.what()};
    run.meeting.fail(error);
    run.groups[rank.index()].abort(error);
    while (run.meeting.arrive(rank.index(), {}).kind != Task::Kind::End) {
    }
  }
}

}  // namespace

Result<TrainResult> train(const TrainConfig& config, Log& log, const std::function<void(const TrainProgress&)>& on_step,
                          const std::atomic<bool>& stop) {
  RETURN_IF_ERROR(check_runtime(config));
  const Result<StepPlan> plan = plan_with_first_slots(config.workload);
  if (!plan.ok()) return plan.error();
  RETURN_IF_ERROR(check_fault(config, *plan));
  const Result<TokenText> text =
      load_token_text(config.text, config.workload.model.vocabulary, config.workload.batch.sequence);
  if (!text.ok()) return text.error();

  const auto ranks = static_cast<std::size_t>(config.workload.layout.world_size());
  const std::vector<Groups> groups =
      make_inproc_groups(config.workload.layout, {config.runtime.link, config.runtime.timeout});
  const SteadyClock clock;
  Director director({config, *text, clock, log, on_step, stop}, *plan);
  MeetingPoint meeting(director, ranks);
  const Run run{config, *text, groups, clock, meeting};
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&run, rank] { run_rank(run, Rank(static_cast<std::int32_t>(rank))); });
    }
  }
  Result<TrainResult> result = director.take_result();
  if (!result.ok()) return result;
  result->backend = "cpu";
  result->device = make_cpu_backend()->device_name();
  result->paced = config.runtime.link.has_value();
  result->timeline.source = timeline_source(config);
  return result;
}

}  // namespace moecast
