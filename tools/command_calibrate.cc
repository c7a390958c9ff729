#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "hwprofiles/import_nccl.h"
#include "hwprofiles/import_trace.h"
#include "hwprofiles/profile_json.h"
#include "hwprofiles/trace_events.h"
#include "runtime/calibration/calibrate.h"
#include "runtime/gpu_module.h"
#include "runtime/trainer/train_config.h"
#include "tools/command.h"
#include "tools/processes.h"
#include "tools/progress.h"

namespace moecast {
namespace {

/// Both of --link-latency and --link-bandwidth, or neither.
Result<std::optional<PacedLink>> pacing(const Arguments& arguments) {
  const std::optional<Duration> latency = arguments.duration("link-latency");
  const std::optional<BytesPerSecond> bandwidth = arguments.bytes_per_second("link-bandwidth");
  if (latency.has_value() != bandwidth.has_value()) {
    return Error{ErrorKind::BadInput, "calibrate", "--link-latency and --link-bandwidth belong together"};
  }
  if (!latency) return std::optional<PacedLink>();
  if (bandwidth->value() <= 0) return Error{ErrorKind::BadInput, "--link-bandwidth", "expected more than 0 B/s"};
  return std::optional(PacedLink{*latency, *bandwidth});
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  return fmt::format("{:%Y-%m-%d}", fmt::gmtime(now));
}

/// The ranks and the link of a training configuration.
Status take_over(const std::string& path, CalibrationOptions& options) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  const Result<TrainConfig> config = read_train_config(*document);
  if (!config.ok()) return config.error();
  options.ranks = config->workload.layout.world_size();
  options.pacing = config->runtime.link;
  options.dtype = compute_type(config->workload);
  return {};
}

/// Ranks that are threads take the GPUs in turn; a process takes the one of its number on its machine.
Status use_gpus(const ProcessWorld* world, CalibrationOptions& options) {
  const Result<GpuMachine> machine = describe_gpus();
  if (!machine.ok()) return machine.error();
  const auto count = static_cast<std::int64_t>(machine->devices.size());
  const std::int64_t ranks_of_first = world != nullptr ? 1 : (options.ranks + count - 1) / count;
  options.accelerator = true;
  options.working_set = Bytes(std::int64_t{256} << 20);  // beyond the second-level caches
  options.device_memory = Bytes(machine->devices.front().memory.count() / ranks_of_first);
  options.make_backend = [count, world](int rank) {
    return make_cuda_backend(static_cast<int>((world != nullptr ? world->local_rank() : rank) % count));
  };
  if (world == nullptr || options.pacing) return {};
  const Result<const NcclFunctions*> nccl = load_nccl();
  if (!nccl.ok()) return nccl.error();
  options.nccl = *nccl;
  return {};
}

/// As many ranks as processes.
Status check_processes(const ProcessWorld* world, const Arguments& arguments, CalibrationOptions& options) {
  if (world == nullptr) return {};
  if (!arguments.flag("for") && !arguments.integer("ranks")) options.ranks = world->size();
  if (options.ranks == world->size()) return {};
  return Error{ErrorKind::BadInput, "calibrate",
               fmt::format("{} processes for {} ranks: start as many", world->size(), options.ranks)};
}

Result<CalibrationOptions> options_of(const Arguments& arguments, const ProcessWorld* world) {
  const Result<std::optional<PacedLink>> link = pacing(arguments);
  if (!link.ok()) return link.error();
  CalibrationOptions options;
  if (const std::optional<std::string> config = arguments.text("for")) {
    if (link->has_value() || arguments.flag("ranks")) {
      return Error{ErrorKind::BadInput, "--for", "takes ranks and link from the file; they cannot be given beside it"};
    }
    RETURN_IF_ERROR(take_over(*config, options));
  } else {
    options.ranks = arguments.integer("ranks").value_or(options.ranks);
    options.pacing = *link;
  }
  RETURN_IF_ERROR(check_processes(world, arguments, options));
  const bool on_gpus = *arguments.text("backend") == "cuda";
  if (on_gpus && !arguments.flag("for")) options.dtype = DType::BF16;
  if (const std::optional<std::string> precision = arguments.text("precision")) {
    options.dtype = *precision == "bf16" ? DType::BF16 : DType::F32;
  }
  if (!on_gpus && options.dtype == DType::BF16) {
    return Error{ErrorKind::BadInput, "--precision", "the CPU backend computes in f32"};
  }
  if (on_gpus) RETURN_IF_ERROR(use_gpus(world, options));
  options.name = *arguments.text("name");
  options.budget = *arguments.duration("budget");
  options.date = today();
  return options;
}

Result<HardwareProfile> calibrate_with_progress(const CalibrationOptions& options, ProcessWorld* world,
                                                const CommandContext& context) {
  const SteadyClock clock;
  ProgressLine line("calibrate", context.show_progress, clock, stderr);
  const auto on_progress = [&](double done, std::string_view what) {
    line.update(static_cast<std::int64_t>(1000 * done), 1000, what);
    return !context.stop.load();
  };
  return world == nullptr ? calibrate(options, context.log, on_progress)
                          : calibrate_as_process(*world, options, context.log, on_progress);
}

/// What one file that somebody else measured holds.
Status import_file(const std::string& path, Log& log, std::vector<ImportedTrace>& traces,
                   std::vector<ImportedCollectives>& collectives) {
  if (!looks_like_trace(path)) {
    Result<ImportedCollectives> imported = import_collectives(path);
    if (!imported.ok()) return imported.error();
    collectives.push_back(std::move(imported).value());
    return {};
  }
  Result<ImportedTrace> trace = import_trace(path);
  if (!trace.ok()) return trace.error();
  log.info("{}: {}", path, describe(*trace));
  if (!trace->collectives.samples.empty()) collectives.push_back(trace->collectives);
  traces.push_back(std::move(trace).value());
  return {};
}

/// A profile of what others have measured.
Result<HardwareProfile> import_measurements(const CommandContext& context) {
  const Arguments& arguments = context.arguments;
  const std::optional<std::string> base = arguments.text("profile");
  if (!base || arguments.positionals().empty()) {
    return Error{ErrorKind::BadInput, "--import",
                 "needs files of nccl-tests, NCCL Inspector or PyTorch's profiler, and --profile: a profile of the "
                 "device, for what they do not hold"};
  }
  if (context.launch.by != Launch::By::Nobody) {
    return Error{ErrorKind::BadInput, "--import", "is done by one process"};
  }
  Result<HardwareProfile> profile = find_profile(*base, ".");
  if (!profile.ok()) return profile.error();
  std::vector<ImportedTrace> traces;
  std::vector<ImportedCollectives> collectives;
  for (const std::string& path : arguments.positionals()) {
    RETURN_IF_ERROR(import_file(path, context.log, traces, collectives));
  }
  for (const ImportedTrace& trace : traces) {
    const std::string& of_base = profile->device.name;
    if (trace.device.find(of_base) != std::string::npos || of_base.find(trace.device) != std::string::npos) continue;
    context.log.warning("a trace of {} beside a profile of {}: what the trace does not hold is the profile's",
                        trace.device, of_base);
  }
  profile->name = *arguments.text("name");
  HardwareProfile measured = with_kernels(std::move(profile).value(), traces);
  if (collectives.empty()) return measured;
  std::vector<KernelSample> kernels;
  for (const ImportedTrace& trace : traces) kernels.insert(kernels.end(), trace.kernels.begin(), trace.kernels.end());
  return with_collectives(std::move(measured), collectives, kernels);
}

/// What belongs to the other way of calibrating.
Status check_mode(const Arguments& arguments) {
  if (arguments.flag("import")) return {};
  if (!arguments.positionals().empty()) {
    return Error{ErrorKind::BadInput, "calibrate",
                 fmt::format("unexpected argument \"{}\"; files belong to --import", arguments.positionals().front())};
  }
  if (arguments.flag("profile")) return Error{ErrorKind::BadInput, "--profile", "belongs to --import"};
  return {};
}

Result<HardwareProfile> make_profile(const CommandContext& context) {
  if (context.arguments.flag("import")) return import_measurements(context);
  const Result<std::unique_ptr<ProcessWorld>> world = meet_others(context, std::chrono::seconds(60));
  if (!world.ok()) return world.error();
  const Result<CalibrationOptions> options = options_of(context.arguments, world->get());
  if (!options.ok()) return options.error();
  return calibrate_with_progress(*options, world->get(), context);
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(check_mode(context.arguments));
  RETURN_IF_ERROR(context.check_output());
  const Result<HardwareProfile> profile = make_profile(context);
  if (!profile.ok()) return profile.error();
  if (context.launch.rank > 0) return {};  // another process writes
  RETURN_IF_ERROR(write_file_atomically(*context.arguments.text("output"), to_json_text(*profile)));
  context.print(describe(*profile));
  return context.print_json(to_json(*profile));
}

}  // namespace

Command calibrate_command() {
  return {
      {.name = "calibrate",
       .summary = "measure this machine's operators and link, and write a hardware profile",
       .details =
           "Ranks are threads, all busy at once, as in training; on GPUs they take the devices in turn and talk\n"
           "through host memory. Started as several processes (see train), one for each GPU, they talk through\n"
           "NCCL. The profile carries its error on the shapes that the fit used and on shapes that it has not\n"
           "seen. With --import nothing is measured: FILEs are the JSON of nccl-tests, the lines of NCCL\n"
           "Inspector, or traces of PyTorch's profiler (record_shapes=True; gzip or not); what a trace holds\n"
           "and has no place in a profile is told.",
       .positionals =
           {{.name = "FILE",
             .help = "with --import: JSON of nccl-tests (alltoall_perf -J FILE), lines of NCCL Inspector, a trace",
             .at_least = 0,
             .at_most = 100}},
       .options =
           {{.name = "output",
             .letter = 'o',
             .kind = ValueKind::Text,
             .value = "FILE",
             .help = "the profile (JSON)",
             .required = true},
            force_option(),
            {.name = "name",
             .kind = ValueKind::Text,
             .value = "NAME",
             .help = "of the profile",
             .fallback = "this_machine"},
            {.name = "import", .help = "measure nothing: what FILEs hold, the rest from --profile"},
            {.name = "profile",
             .kind = ValueKind::Text,
             .value = "PROFILE",
             .help = "with --import: a built-in hardware profile or a file"},
            {.name = "for",
             .kind = ValueKind::Text,
             .value = "CONFIG",
             .help = "ranks and link as in this training configuration"},
            {.name = "ranks",
             .kind = ValueKind::Integer,
             .value = "N",
             .help = "ranks that run at once [2]",
             .low = 1,
             .high = 256},
            {.name = "link-latency",
             .kind = ValueKind::Time,
             .value = "TIME",
             .help = "measure through a link that is slowed down to this, as in a paced training run (\"200 us\")"},
            {.name = "link-bandwidth", .kind = ValueKind::Rate, .value = "RATE", .help = "and to this (\"80 MB/s\")"},
            {.name = "budget",
             .kind = ValueKind::Time,
             .value = "TIME",
             .help = "wall time to spend",
             .fallback = "30 s"},
            {.name = "backend",
             .kind = ValueKind::Choice,
             .value = "NAME",
             .help = "what to measure",
             .fallback = "cpu",
             .choices = {"cpu", "cuda"}},
            {.name = "precision",
             .kind = ValueKind::Choice,
             .value = "TYPE",
             .help = "of activations and weights [f32; bf16 on cuda]",
             .choices = {"f32", "bf16"}}},
       .examples =
           {"moecast calibrate -o profile.json",
            "moecast calibrate --import alltoall.json all_reduce.json --profile h200_nvlink_8 -o our_cluster.json",
            "moecast calibrate --import rank0.pt.trace.json.gz --profile h200_nvlink_8 -o our_gpus.json",
            "moecast calibrate --for experiments/quickstart/train/top2.json -o profile.json",
            "moecast calibrate --link-latency \"200 us\" --link-bandwidth \"80 MB/s\" --budget \"20 s\" -o p.json"},
       .several_processes = true},
      run};
}

}  // namespace moecast
