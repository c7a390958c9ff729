#include "runtime/trainer/train.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/checkpoint/posix_environment.h"
#include "runtime/comm/inproc.h"
#include "runtime/comm/nccl.h"
#include "runtime/comm/staged.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/gpu_module.h"
#include "runtime/trainer/director.h"
#include "runtime/trainer/process_meeting.h"
#include "runtime/trainer/rank_seat.h"
#include "runtime/trainer/slot_choice.h"
#include "runtime/trainer/trainable.h"

namespace moecast {
namespace {

constexpr std::int64_t kMaxRanks = 256;  // threads of one process

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

template <typename... Results>
Status first_error(const Results&... results) {
  Status first;
  ((first.ok() && !results.ok() ? void(first = results.error()) : void()), ...);
  return first;
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

Status check_communicator(const TrainConfig& config) {
  const RuntimeConfig& runtime = config.runtime;
  if (!runtime.communicator) return {};
  if (runtime.backend == BackendKind::Cpu) {
    return bad(config.name, "/runtime/communicator: is of GPUs; the CPU backend has no use for it");
  }
  if (runtime.communicator == CommunicatorKind::Nccl && runtime.link) {
    return bad(config.name, "/runtime/communicator: NCCL cannot be slowed down to /runtime/link; \"staged\" can");
  }
  return {};
}

/// What the backends can train.
Status check_runtime(const TrainConfig& config) {
  RETURN_IF_ERROR(check_layout(config));
  RETURN_IF_ERROR(check_communicator(config));
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

/// `place`: of the rank among those of its machine.
Result<std::unique_ptr<Backend>> make_backend(const TrainConfig& config, int place) {
  if (config.runtime.backend == BackendKind::Cpu) return make_cpu_backend();
  const Result<GpuMachine> machine = describe_gpus();
  if (!machine.ok()) return machine.error();
  return make_cuda_backend(place % static_cast<int>(machine->devices.size()));
}

Status check_threads(const TrainConfig& config) {
  const std::int64_t ranks = config.workload.layout.world_size();
  if (config.runtime.communicator == CommunicatorKind::Nccl) {
    return bad(
        config.name,
        fmt::format("/runtime/communicator: NCCL needs a process for each of the {} ranks (srun, torchrun, mpirun, "
                    "or RANK and WORLD_SIZE); ranks that are threads talk through \"staged\"",
                    ranks));
  }
  if (ranks <= kMaxRanks) return {};
  return bad(
      config.name,
      fmt::format("{} ranks: at most {} threads stand in for ranks; start as many processes (srun, mpirun, torchrun)",
                  ranks, kMaxRanks));
}

Status check_faults(const TrainConfig& config, const StepPlan& plan) {
  for (const Fault& fault : config.faults) {
    const std::string& name = fault.operator_name;
    const auto has_name = [&](const Operator& op) { return op.name() == name; };
    if (name.empty() || std::ranges::any_of(plan.operators, has_name)) continue;
    return bad(config.name, fmt::format("faults: the step has no operator \"{}\" (one that it has: \"{}\")", name,
                                        plan.operators.back().name()));
  }
  return {};
}

std::string timeline_source(const TrainConfig& config, const Backend& backend, std::string_view communicator) {
  std::string link = "unpaced";
  if (config.runtime.link) {
    link = fmt::format("paced {}, latency {}", to_text(config.runtime.link->bandwidth),
                       to_text(config.runtime.link->latency));
  }
  return fmt::format("measured: {} x{}, {} {}", backend.name(), config.workload.layout.world_size(), communicator,
                     link);
}

/// What a rank needs of the run; borrowed.
struct Run {
  const TrainConfig& config;
  const TokenText& text;
  const Clock& clock;
  MeetingPoint& meeting;
  FaultSchedule& faults;
  const CheckpointInventory* inventory = nullptr;  // if the run saves checkpoints
  const NcclFunctions* nccl = nullptr;             // between GPUs; null: through host memory
};

/// One attempt of a rank: its place, and how it talks to the others.
struct Attempt {
  Rank rank;
  RankSeat& seat;
  const Groups& groups;
  Communicator* checkpoints = nullptr;          // a group of all ranks for checkpoints alone, if there are any
  std::vector<const SnapshotMemory*> memories;  // that count in a recovery

  /// This rank has failed: nobody is to wait for it.
  void abandon(const Error& reason) const {
    groups.abort(reason);
    if (checkpoints != nullptr) checkpoints->abort(reason);
  }
};

BatchShare share_of(const TrainConfig& config, Rank rank) {
  const Workload& workload = config.workload;
  return {workload.layout.position(Group::Data, rank), workload.layout.data,
          workload.batch.micro_batch * workload.batch.micro_batch_count, workload.batch.sequence};
}

Result<StepOutcome> run_plan(const Run& run, const Task& task, Rank rank, RankTrainer& trainer, TokenBatch& batch) {
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

Result<StepOutcome> do_task(const Run& run, const Attempt& attempt, const Task& task, RankTrainer& trainer,
                            RankCheckpoint* checkpoint, TokenBatch& batch) {
  StepOutcome outcome;
  if (task.kind == Task::Kind::Open) {
    Result<std::optional<RestoredRank>> restored = checkpoint->open(task.resume);
    if (!restored.ok()) return restored.error();
    outcome.restored = std::move(restored).value();
    return outcome;
  }
  if (task.kind == Task::Kind::Drain) {
    RETURN_IF_ERROR(checkpoint->drain());
    return outcome;
  }
  if (task.kind == Task::Kind::Train) run.faults.begin_step(attempt.rank, task.index, attempt.seat.environment);
  if (task.snapshot != nullptr) RETURN_IF_ERROR(checkpoint->begin(*task.snapshot));
  return run_plan(run, task, attempt.rank, trainer, batch);
}

std::unique_ptr<RankCheckpoint> make_checkpoint(const Run& run, const Attempt& attempt, RankTrainer& trainer) {
  if (run.inventory == nullptr) return nullptr;
  auto checkpoint = std::make_unique<RankCheckpoint>(
      RankCheckpoint::Options{*run.config.checkpoint, run.config.workload.model, *run.inventory, attempt.rank,
                              *attempt.seat.backend, attempt.seat.environment, attempt.seat.memory, attempt.memories,
                              *attempt.checkpoints, run.clock, trainer.store()});
  trainer.runner().before_update([each = checkpoint.get()] { return each->finish(); });
  return checkpoint;
}

/// Groups for a backend with memory of its own.
Groups device_groups(const Run& run, const Groups& host, Backend& backend) {
  return run.nccl == nullptr ? stage(host, backend)
                             : make_nccl_groups(*run.nccl, host, backend, {.timeout = run.config.runtime.timeout});
}

void run_tasks(const Run& run, const Attempt& attempt) {
  Backend& backend = *attempt.seat.backend;
  const Groups on_device = backend.asynchronous() ? device_groups(run, attempt.groups, backend) : Groups();
  RankTrainerOptions options{run.config.workload, attempt.rank, backend,
                             backend.asynchronous() ? on_device : attempt.groups, run.clock};
  options.seed = run.config.seed;
  options.gradient_clip = run.config.optimizer.gradient_clip;
  options.faults = &run.faults;
  options.on_failure = [&run](const Error& error) { run.meeting.fail(error); };
  Result<std::unique_ptr<RankTrainer>> trainer = RankTrainer::make(options);
  if (!trainer.ok()) run.meeting.fail(trainer.error());
  std::unique_ptr<RankCheckpoint> checkpoint;  // goes before the trainer whose tensors it copies
  if (trainer.ok()) checkpoint = make_checkpoint(run, attempt, **trainer);

  TokenBatch batch;
  std::optional<StepOutcome> outcome;
  for (Task task = run.meeting.arrive(attempt.rank, {}); task.kind != Task::Kind::End;
       task = run.meeting.arrive(attempt.rank, std::move(outcome))) {
    outcome.reset();
    Result<StepOutcome> done = do_task(run, attempt, task, **trainer, checkpoint.get(), batch);
    if (done.ok()) {
      outcome = std::move(done).value();
    } else {
      run.meeting.fail(done.error());
      attempt.abandon(done.error());
    }
    if (checkpoint && outcome) outcome->checkpoints = checkpoint->take_outcomes();
  }
}

/// A rank that threw outside an operator (out of memory, say) has left the work for good: the others must not wait for
/// it.
void run_rank(const Run& run, const Attempt& attempt) {
  try {
    run_tasks(run, attempt);
  } catch (const std::exception& exception) {
    const Error error{ErrorKind::RunFailed, fmt::format("rank {}", attempt.rank.value()), exception.what()};
    run.meeting.fail(error);
    attempt.abandon(error);
    while (run.meeting.arrive(attempt.rank, {}).kind != Task::Kind::End) {
    }
  }
}

struct Prepared {
  StepPlan plan;
  TokenText text;
  std::optional<CheckpointInventory> inventory;  // if the run saves checkpoints
};

Result<Prepared> prepare(const TrainConfig& config) {
  RETURN_IF_ERROR(check_runtime(config));
  Result<StepPlan> plan = plan_with_first_slots(config.workload);
  if (!plan.ok()) return plan.error();
  RETURN_IF_ERROR(check_faults(config, *plan));
  Result<TokenText> text =
      load_token_text(config.text, config.workload.model.vocabulary, config.workload.batch.sequence);
  if (!text.ok()) return text.error();
  Prepared prepared{std::move(plan).value(), std::move(text).value(), {}};
  if (config.checkpoint) {
    Result<CheckpointInventory> inventory = CheckpointInventory::make(config.workload.model, config.workload.layout,
                                                                      precision_of(config.workload.bytes_per_element));
    if (!inventory.ok()) return inventory.error();
    prepared.inventory = std::move(inventory).value();
  }
  return prepared;
}

/// As `prepare`, when each rank is a process.
Result<Prepared> check_processes(const ProcessWorld& world, const TrainConfig& config) {
  const std::int64_t ranks = config.workload.layout.world_size();
  if (ranks != world.size()) {
    return bad(config.name, fmt::format("{} processes for the {} ranks of /workload/parallel; start {}, or change the "
                                        "layout (data = {})",
                                        world.size(), ranks, ranks, world.size()));
  }
  return prepare(config);
}

/// The folder may take this run's checkpoints, or has those that it goes on from. By one rank.
Status open_folder(const TrainConfig& config) {
  if (!config.checkpoint) return {};
  const CheckpointConfig& checkpoint = *config.checkpoint;
  if (checkpoint.folder.empty()) return bad(config.name, "/checkpoint/folder: where are the checkpoints to go?");
  const std::unique_ptr<Environment> environment = make_posix_environment();
  const Result<std::int64_t> next =
      open_checkpoint_folder(*environment, checkpoint.folder, identity_of(config.workload.model));
  if (!next.ok()) return next.error();
  if (checkpoint.resume) return {};
  const Result<CheckpointFolder> folder = read_checkpoint_folder(*environment, checkpoint.folder);
  if (!folder.ok()) return folder.error();
  if (folder->edits.empty()) return {};
  return bad(checkpoint.folder.string(),
             fmt::format("holds checkpoints up to step {}: --resume goes on from there; a new run needs another folder",
                         folder->edits.back().edit.state.step));
}

Director::Options options_of(const TrainConfig& config, const Prepared& prepared, const Clock& clock, Log& log,
                             const std::function<void(const TrainProgress&)>& on_step, const std::atomic<bool>& stop) {
  return {config, prepared.text, clock, log, on_step, stop, prepared.inventory ? &*prepared.inventory : nullptr};
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

/// A group of all ranks for checkpoints alone: ranks wait for one another as long as the slowest one writes.
LinkOptions checkpoint_link() { return {{}, std::chrono::hours(1)}; }

/// The ranks once, as threads, until they all have ended.
void run_threads(const Run& run, const std::vector<std::unique_ptr<RankSeat>>& seats) {
  const TrainConfig& config = run.config;
  const std::vector<Groups> groups = make_inproc_groups(config.workload.layout, link_of(config));
  std::vector<std::unique_ptr<Communicator>> checkpoints(seats.size());
  std::vector<const SnapshotMemory*> memories;
  if (run.inventory != nullptr) {
    checkpoints = make_inproc_group(static_cast<int>(seats.size()), checkpoint_link(), "checkpoint");
    for (const auto& seat : seats) memories.push_back(&seat->memory);
    if (!config.checkpoint->policy.recovers_from_memory()) memories.clear();
  }
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < seats.size(); ++i) {
    threads.emplace_back([&, i] {
      run_rank(run, {Rank(static_cast<std::int32_t>(i)), *seats[i], groups[i], checkpoints[i].get(), memories});
    });
  }
}

using Seats = std::vector<std::unique_ptr<RankSeat>>;

Result<Seats> make_seats(const TrainConfig& config, const BackendMaker& backend_maker) {
  Seats seats;
  for (std::int32_t rank = 0; rank < config.workload.layout.world_size(); ++rank) {
    Result<std::unique_ptr<Backend>> backend = backend_maker ? backend_maker(Rank(rank)) : make_backend(config, rank);
    if (!backend.ok()) return backend.error();
    seats.push_back(std::make_unique<RankSeat>(std::move(backend).value()));
  }
  return seats;
}

/// Recovers from injected faults as long as there are checkpoints to go on from.
void run_to_the_end(const TrainConfig& config, const Prepared& prepared, const Seats& seats, const Clock& clock,
                    Director& director) {
  FaultSchedule faults(config.faults);
  while (true) {
    ThreadMeeting meeting(director, seats.size());
    run_threads({config, prepared.text, clock, meeting, faults, prepared.inventory ? &*prepared.inventory : nullptr},
                seats);
    const std::optional<Fault> killer = faults.take_killer();
    if (!killer || !director.recover(*killer)) return;
    if (killer->kind != FaultKind::LoseNode) continue;
    for (const std::int64_t rank : killer->ranks) seats[static_cast<std::size_t>(rank)]->memory.lose();
  }
}

/// NCCL, if the configuration wants it; null: host memory.
Result<const NcclFunctions*> choose_nccl(const TrainConfig& config, const ProcessDevices& devices) {
  const RuntimeConfig& runtime = config.runtime;
  const bool wanted =
      runtime.communicator ? *runtime.communicator == CommunicatorKind::Nccl : !runtime.link.has_value();
  if (devices.nccl != nullptr) return wanted ? devices.nccl : nullptr;
  if (runtime.backend != BackendKind::Cuda || !wanted) return static_cast<const NcclFunctions*>(nullptr);
  return load_nccl();
}

}  // namespace

Result<TrainResult> train(const TrainConfig& config, Log& log, const std::function<void(const TrainProgress&)>& on_step,
                          const std::atomic<bool>& stop, const BackendMaker& backend_maker) {
  RETURN_IF_ERROR(check_threads(config));
  Result<Prepared> prepared = prepare(config);
  if (!prepared.ok()) return prepared.error();
  RETURN_IF_ERROR(open_folder(config));
  const Result<Seats> seats = make_seats(config, backend_maker);
  if (!seats.ok()) return seats.error();
  const SteadyClock clock;
  Director director(options_of(config, *prepared, clock, log, on_step, stop), prepared->plan);
  run_to_the_end(config, *prepared, *seats, clock, director);
  const Backend& backend = *seats->front()->backend;
  return finish(director, config, backend, backend.asynchronous() ? "staged inproc" : "inproc");
}

Result<TrainResult> train_as_process(ProcessWorld& world, const TrainConfig& config, Log& log,
                                     const std::function<void(const TrainProgress&)>& on_step,
                                     const std::atomic<bool>& stop, const ProcessDevices& devices) {
  Result<std::unique_ptr<Communicator>> control = world.make_world_group("control", {{}, config.runtime.timeout});
  if (!control.ok()) return control.error();
  Result<Prepared> prepared = check_processes(world, config);
  Result<std::unique_ptr<Backend>> backend =
      devices.make_backend ? devices.make_backend(Rank(world.rank())) : make_backend(config, world.local_rank());
  const Result<const NcclFunctions*> nccl = choose_nccl(config, devices);
  Status ready = first_error(prepared, backend, nccl);
  if (ready.ok() && world.rank() == 0) ready = open_folder(config);
  RETURN_IF_ERROR(share_failure(**control, ready));
  const Result<Groups> groups = world.make_groups(config.workload.layout, link_of(config));
  const Result<std::unique_ptr<Communicator>> checkpoints =
      prepared->inventory ? world.make_world_group("checkpoint", checkpoint_link())
                          : Result<std::unique_ptr<Communicator>>(nullptr);
  RETURN_IF_ERROR(share_failure(**control, first_error(groups, checkpoints)));
  const SteadyClock clock;  // starts on all ranks together
  std::atomic<bool> agreed_stop = false;
  Director director(options_of(config, *prepared, clock, log, on_step, agreed_stop), prepared->plan);
  ProcessMeeting meeting(director, **control, clock, stop, agreed_stop, [&](const Error& error) {
    log.error("rank {}: {}", world.rank(), error.text());
    world.lose_peers(exit_code(error.kind));
  });
  RankSeat seat(std::move(backend).value());
  FaultSchedule faults(config.faults);
  run_rank(
      {config, prepared->text, clock, meeting, faults, prepared->inventory ? &*prepared->inventory : nullptr, *nccl},
      {Rank(world.rank()), seat, *groups, checkpoints->get(), {}});
  const std::string host = seat.backend->asynchronous() ? "staged " + world.name() : world.name();
  return finish(director, config, *seat.backend, *nccl != nullptr ? "nccl" : host);
}

}  // namespace moecast
