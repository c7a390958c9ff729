#include "runtime/trainer/train.h"

#include <atomic>
#include <exception>
#include <thread>

#include <fmt/format.h>

#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/trainer/director.h"
#include "runtime/trainer/process_meeting.h"
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
  return {};
}

Status check_threads(const TrainConfig& config) {
  const std::int64_t ranks = config.workload.layout.world_size();
  if (ranks <= kMaxRanks) return {};
  return bad(config.name,
             fmt::format("{} ranks: at most {} threads stand in for ranks; start as many processes (mpirun)", ranks,
                         kMaxRanks));
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

std::string timeline_source(const TrainConfig& config, std::string_view communicator) {
  std::string link = "unpaced";
  if (config.runtime.link) {
    link = fmt::format("paced {}, latency {}", to_text(config.runtime.link->bandwidth),
                       to_text(config.runtime.link->latency));
  }
  return fmt::format("measured: cpu x{}, {} {}", config.workload.layout.world_size(), communicator, link);
}

/// What a rank needs of the run; borrowed.
struct Run {
  const TrainConfig& config;
  const TokenText& text;
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

void run_tasks(const Run& run, const Groups& groups, Rank rank) {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  RankTrainerOptions options{run.config.workload, rank, *backend, groups, run.clock};
  options.seed = run.config.seed;
  options.gradient_clip = run.config.optimizer.gradient_clip;
  options.fault = run.config.runtime.fault;
  options.on_failure = [&run](const Error& error) { run.meeting.fail(error); };
  Result<std::unique_ptr<RankTrainer>> trainer = RankTrainer::make(options);
  if (!trainer.ok()) run.meeting.fail(trainer.error());

  TokenBatch batch;
  std::optional<StepOutcome> outcome;
  for (Task task = run.meeting.arrive(rank, {}); task.kind != Task::Kind::End;
       task = run.meeting.arrive(rank, std::move(outcome))) {
    outcome.reset();
    Result<StepOutcome> done = do_task(run, task, rank, **trainer, batch);
    if (done.ok()) {
      outcome = std::move(done).value();
    } else {
      run.meeting.fail(done.error());
    }
  }
}

/// A rank that threw outside an operator (out of memory, say) has left the work for good: the others must not wait for
/// it.
void run_rank(const Run& run, const Groups& groups, Rank rank) {
  try {
    run_tasks(run, groups, rank);
  } catch (const std::exception& exception) {
    const Error error{ErrorKind::RunFailed, fmt::format("rank {}", rank.value()), exception.what()};
    run.meeting.fail(error);
    groups.abort(error);
    while (run.meeting.arrive(rank, {}).kind != Task::Kind::End) {
    }
  }
}

struct Prepared {
  StepPlan plan;
  TokenText text;
};

Result<Prepared> prepare(const TrainConfig& config) {
  RETURN_IF_ERROR(check_runtime(config));
  Result<StepPlan> plan = plan_with_first_slots(config.workload);
  if (!plan.ok()) return plan.error();
  RETURN_IF_ERROR(check_fault(config, *plan));
  Result<TokenText> text =
      load_token_text(config.text, config.workload.model.vocabulary, config.workload.batch.sequence);
  if (!text.ok()) return text.error();
  return Prepared{std::move(plan).value(), std::move(text).value()};
}

/// As `prepare`, when each rank is a process.
Result<Prepared> check_processes(const MpiWorld& world, const TrainConfig& config) {
  const std::int64_t ranks = config.workload.layout.world_size();
  if (ranks != world.size()) {
    return bad(config.name, fmt::format("{} processes for the {} ranks of /workload/parallel; start {}, or change the "
                                        "layout (data = {})",
                                        world.size(), ranks, ranks, world.size()));
  }
  return prepare(config);
}

LinkOptions link_of(const TrainConfig& config) { return {config.runtime.link, config.runtime.timeout}; }

Result<TrainResult> finish(Director& director, const TrainConfig& config, std::string_view communicator) {
  Result<TrainResult> result = director.take_result();
  if (!result.ok()) return result;
  result->backend = "cpu";
  result->device = make_cpu_backend()->device_name();
  result->paced = config.runtime.link.has_value();
  result->timeline.source = timeline_source(config, communicator);
  return result;
}

}  // namespace

Result<TrainResult> train(const TrainConfig& config, Log& log, const std::function<void(const TrainProgress&)>& on_step,
                          const std::atomic<bool>& stop) {
  RETURN_IF_ERROR(check_threads(config));
  Result<Prepared> prepared = prepare(config);
  if (!prepared.ok()) return prepared.error();
  const std::vector<Groups> groups = make_inproc_groups(config.workload.layout, link_of(config));
  const SteadyClock clock;
  Director director({config, prepared->text, clock, log, on_step, stop}, std::move(prepared->plan));
  ThreadMeeting meeting(director, groups.size());
  const Run run{config, prepared->text, clock, meeting};
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < groups.size(); ++rank) {
      threads.emplace_back([&, rank] { run_rank(run, groups[rank], Rank(static_cast<std::int32_t>(rank))); });
    }
  }
  return finish(director, config, "inproc");
}

Result<TrainResult> train_as_process(const MpiWorld& world, const TrainConfig& config, Log& log,
                                     const std::function<void(const TrainProgress&)>& on_step,
                                     const std::atomic<bool>& stop) {
  const std::unique_ptr<Communicator> control = world.make_world_group("control", {{}, config.runtime.timeout});
  Result<Prepared> prepared = check_processes(world, config);
  RETURN_IF_ERROR(share_failure(*control, prepared.ok() ? Status() : Status(prepared.error())));
  const Groups groups = world.make_groups(config.workload.layout, link_of(config));
  RETURN_IF_ERROR(control->barrier());
  const SteadyClock clock;  // starts on all ranks together
  std::atomic<bool> agreed_stop = false;
  Director director({config, prepared->text, clock, log, on_step, agreed_stop}, std::move(prepared->plan));
  ProcessMeeting meeting(director, *control, clock, stop, agreed_stop, [&](const Error& error) {
    log.error("rank {}: {}", world.rank(), error.text());
    world.abort(exit_code(error.kind));
  });
  run_rank({config, prepared->text, clock, meeting}, groups, Rank(world.rank()));
  return finish(director, config, "mpi");
}

}  // namespace moecast
