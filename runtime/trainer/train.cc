#include "runtime/trainer/train.h"

#include <atomic>
#include <exception>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/comm/inproc.h"
#include "runtime/comm/staged.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/gpu_module.h"
#include "runtime/trainer/director.h"
#include "runtime/trainer/process_meeting.h"
#include "runtime/trainer/slot_choice.h"
#include "runtime/trainer/trainable.h"

namespace moecast {
namespace {

constexpr std::int64_t kMaxRanks = 256;  // threads of one process

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

/// The plans of a layout that moecast simulates but does not train.
Status check_layout(const TrainConfig& config) {
  const ParallelLayout& layout = config.workload.layout;
  std::vector<std::string> problems;
  for (const auto& [name, degree] :
       {std::pair("tensor", layout.tensor), {"pipeline", layout.pipeline}, {"context", layout.context}}) {
    if (degree > 1) problems.push_back(fmt::format("{} {}: expected 1", name, degree));
  }
  if (layout.zero_stage > 2) problems.push_back(fmt::format("zero_stage {}: expected 0, 1 or 2", layout.zero_stage));
  if (layout.recomputation != Recomputation::None) problems.push_back("recomputation: expected \"none\"");
  if (problems.empty()) return {};
  return bad(config.name,
             fmt::format("moecast train divides work over data and expert ranks; /workload/parallel has {} "
                         "(moecast simulate plans it)",
                         fmt::join(problems, ", ")));
}

/// What the backends can train.
Status check_runtime(const TrainConfig& config) {
  RETURN_IF_ERROR(check_layout(config));
  const DType compute = compute_type(config.workload);
  if (config.runtime.backend == BackendKind::Cpu && compute == DType::BF16) {
    return bad(config.name, "precision bf16: the CPU backend computes in f32 or f64");
  }
  if (config.runtime.backend == BackendKind::Cuda && compute == DType::F64) {
    return bad(config.name, "precision f64: the CUDA backend computes in f32 or bf16");
  }
  for (const Block& block : config.workload.model.blocks) {
    if (compute != DType::BF16 || !block.moe || block.moe->coefficient_gate != CoefficientGate::Cg1) continue;
    return bad(config.name, "precision bf16: the coefficient gate cg1 is trained in f32 only");
  }
  if (const std::vector<std::string> parts = untrainable_parts(config.workload.model); !parts.empty()) {
    return bad(config.name, fmt::format("the trainer cannot run all of model {}: it has no {} (simulate can)",
                                        config.workload.model.name, fmt::join(parts, ", no ")));
  }
  return {};
}

Result<std::unique_ptr<Backend>> make_backend(const TrainConfig& config, Rank rank) {
  if (config.runtime.backend == BackendKind::Cpu) return make_cpu_backend();
  const Result<GpuMachine> machine = describe_gpus();
  if (!machine.ok()) return machine.error();
  return make_cuda_backend(rank.value() % static_cast<int>(machine->devices.size()));
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

std::string timeline_source(const TrainConfig& config, const Backend& backend, std::string_view communicator) {
  std::string link = "unpaced";
  if (config.runtime.link) {
    link = fmt::format("paced {}, latency {}", to_text(config.runtime.link->bandwidth),
                       to_text(config.runtime.link->latency));
  }
  return fmt::format("measured: {} x{}, {}{} {}", backend.name(), config.workload.layout.world_size(),
                     backend.asynchronous() ? "staged " : "", communicator, link);
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

void run_tasks(const Run& run, Backend& backend, const Groups& groups, Rank rank) {
  const Groups staged = backend.asynchronous() ? stage(groups, backend) : Groups();
  RankTrainerOptions options{run.config.workload, rank, backend, backend.asynchronous() ? staged : groups, run.clock};
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
void run_rank(const Run& run, Backend& backend, const Groups& groups, Rank rank) {
  try {
    run_tasks(run, backend, groups, rank);
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

Result<TrainResult> finish(Director& director, const TrainConfig& config, const Backend& backend,
                           std::string_view communicator) {
  Result<TrainResult> result = director.take_result();
  if (!result.ok()) return result;
  result->backend = backend.name();
  result->device = backend.device_name();
  result->paced = config.runtime.link.has_value();
  result->timeline.source = timeline_source(config, backend, communicator);
  return result;
}

}  // namespace

Result<TrainResult> train(const TrainConfig& config, Log& log, const std::function<void(const TrainProgress&)>& on_step,
                          const std::atomic<bool>& stop, const BackendMaker& backend_maker) {
  RETURN_IF_ERROR(check_threads(config));
  Result<Prepared> prepared = prepare(config);
  if (!prepared.ok()) return prepared.error();
  std::vector<std::unique_ptr<Backend>> backends;
  for (std::int32_t rank = 0; rank < config.workload.layout.world_size(); ++rank) {
    Result<std::unique_ptr<Backend>> backend =
        backend_maker ? backend_maker(Rank(rank)) : make_backend(config, Rank(rank));
    if (!backend.ok()) return backend.error();
    backends.push_back(std::move(backend).value());
  }
  const std::vector<Groups> groups = make_inproc_groups(config.workload.layout, link_of(config));
  const SteadyClock clock;
  Director director({config, prepared->text, clock, log, on_step, stop}, std::move(prepared->plan));
  ThreadMeeting meeting(director, groups.size());
  const Run run{config, prepared->text, clock, meeting};
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < groups.size(); ++rank) {
      threads.emplace_back(
          [&, rank] { run_rank(run, *backends[rank], groups[rank], Rank(static_cast<std::int32_t>(rank))); });
    }
  }
  return finish(director, config, *backends.front(), "inproc");
}

Result<TrainResult> train_as_process(const MpiWorld& world, const TrainConfig& config, Log& log,
                                     const std::function<void(const TrainProgress&)>& on_step,
                                     const std::atomic<bool>& stop) {
  const std::unique_ptr<Communicator> control = world.make_world_group("control", {{}, config.runtime.timeout});
  Result<Prepared> prepared = check_processes(world, config);
  Result<std::unique_ptr<Backend>> backend = make_backend(config, Rank(world.rank()));
  const Status ready = !prepared.ok() ? Status(prepared.error()) : !backend.ok() ? Status(backend.error()) : Status();
  RETURN_IF_ERROR(share_failure(*control, ready));
  const Groups groups = world.make_groups(config.workload.layout, link_of(config));
  RETURN_IF_ERROR(control->barrier());
  const SteadyClock clock;  // starts on all ranks together
  std::atomic<bool> agreed_stop = false;
  Director director({config, prepared->text, clock, log, on_step, agreed_stop}, std::move(prepared->plan));
  ProcessMeeting meeting(director, *control, clock, stop, agreed_stop, [&](const Error& error) {
    log.error("rank {}: {}", world.rank(), error.text());
    world.abort(exit_code(error.kind));
  });
  run_rank({config, prepared->text, clock, meeting}, **backend, groups, Rank(world.rank()));
  return finish(director, config, **backend, "mpi");
}

}  // namespace moecast
