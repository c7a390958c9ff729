#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/comm/mpi.h"
#include "tools/command.h"
#include "tools/machine.h"
#include "tools/revision.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

/// One thing that a user may want to do here, and whether it works.
struct Ability {
  std::string name;
  bool works = false;
  std::string why;  // what it will use, or what is missing and how to get it
};

std::string gpu_reason(const Machine& machine) {
  if (machine.gpus.ok()) return "";
  if (machine.built_with_gpu_module) return machine.gpus.error().text();
  return machine.cuda_toolkit.path.empty()
             ? "built without the GPU module; install a CUDA toolkit (12 or newer) with NCCL and build again"
             : "built without the GPU module; build again with -DMOECAST_WITH_CUDA=ON (needs cuBLAS and NCCL)";
}

/// What the threads that communicate can do beside those that compute.
const char* overlap_reason(Wakeup wakeup) {
  switch (wakeup) {
    case Wakeup::RealTime:
      return "communication has real-time priority on its core";
    case Wakeup::ShortSlice:
      return "communication has a short time slice; real-time priority (ulimit -r 1) hides a little more";
    case Wakeup::InTurn:
      return "communication waits its turn for a core; allow real-time priority (ulimit -r 1)";
  }
  return "";
}

std::string mpi_reason(const Machine& machine) {
  if (!is_mpi_built()) return "built without MPI; install one (libopenmpi-dev, openmpi-bin) and build again";
  return machine.mpi.path.empty() ? "mpirun was not found" : "mpirun -n N moecast train CONFIG, N ranks in the layout";
}

std::vector<Ability> abilities(const Machine& machine) {
  const std::size_t gpu_count = machine.gpus.ok() ? machine.gpus->devices.size() : 0;
  std::vector<Ability> out;
  out.push_back({"train and calibrate on the CPU", true,
                 fmt::format("ranks are threads; {} run side by side at full speed", machine.cores)});
  out.push_back({"hide communication under compute there", machine.communication_wakeup != Wakeup::InTurn,
                 overlap_reason(machine.communication_wakeup)});
  out.push_back({"train and calibrate on a GPU", gpu_count > 0,
                 gpu_count > 0 ? machine.gpus->devices.front().name : gpu_reason(machine)});
  const bool several = gpu_count > 1 && !machine.nccl.empty();
  out.push_back({"NCCL between GPUs", several,
                 several          ? fmt::format("{} GPUs, NCCL {}, a process for each", gpu_count, machine.nccl)
                 : gpu_count == 0 ? "no usable GPU"
                 : gpu_count == 1 ? "one GPU only"
                                  : "libnccl.so.2 was not found"});
  out.push_back({"ranks as processes, on several machines (TCP)", true,
                 "srun, torchrun, or RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT for each moecast train"});
  out.push_back({"ranks as processes, on several machines (MPI)", is_mpi_built() && !machine.mpi.path.empty(),
                 mpi_reason(machine)});
  out.push_back({"simulate, reproduce, validate, report", true, "any machine; no GPU needed"});
  return out;
}

std::string or_none(const Found& found) {
  if (found.path.empty()) return "not found";
  return found.version.empty() ? found.path : fmt::format("{} ({})", found.version, found.path);
}

Table facts_table(const Machine& machine) {
  Table table({{""}, {""}});
  table.row({"processor", machine.processor.empty() ? "unknown" : machine.processor});
  table.row({"cores", machine.cores == machine.hardware_threads
                          ? fmt::format("{}", machine.cores)
                          : fmt::format("{} of {}", machine.cores, machine.hardware_threads)});
  table.row({"instructions", machine.instructions.back()});
  table.row({"memory", fmt::format("{}, {} free", pretty(machine.memory), pretty(machine.memory_available))});
  table.row({"disk", fmt::format("{} free in {}", pretty(machine.disk_free), machine.folder.string())});
  table.row({"CUDA toolkit", or_none(machine.cuda_toolkit)});
  table.row({"GPU module", machine.built_with_gpu_module ? "built" : "not built"});
  if (machine.gpus.ok()) {
    for (const GpuDevice& gpu : machine.gpus->devices) {
      table.row({fmt::format("GPU {}", gpu.index),
                 fmt::format("{}, {}, {} multiprocessors, compute {}.{}", gpu.name, pretty(gpu.memory),
                             gpu.multiprocessors, gpu.capability_major, gpu.capability_minor)});
    }
    table.row({"CUDA driver", machine.gpus->driver});
  } else {
    table.row({"GPU", "none that can be used"});
  }
  table.row({"NCCL", machine.nccl.empty() ? "not found" : machine.nccl});
  table.row({"MPI", or_none(machine.mpi)});
  return table;
}

Json found_json(const Found& found) {
  if (found.path.empty()) return nullptr;
  return Json{{"path", found.path}, {"version", found.version}};
}

Json gpus_json(const Machine& machine) {
  if (!machine.gpus.ok()) return Json{{"devices", Json::array()}, {"reason", machine.gpus.error().text()}};
  Json devices = Json::array();
  for (const GpuDevice& gpu : machine.gpus->devices) {
    devices.push_back({{"index", gpu.index},
                       {"name", gpu.name},
                       {"memory_bytes", gpu.memory.count()},
                       {"multiprocessors", gpu.multiprocessors},
                       {"capability", fmt::format("{}.{}", gpu.capability_major, gpu.capability_minor)}});
  }
  return Json{{"devices", devices},
              {"driver", machine.gpus->driver},
              {"runtime", machine.gpus->runtime},
              {"cublas", machine.gpus->cublas}};
}

Json machine_json(const Machine& machine) {
  Json can = Json::array();
  for (const Ability& each : abilities(machine)) {
    can.push_back({{"name", each.name}, {"works", each.works}, {"why", each.why}});
  }
  return {{"schema", "moecast.doctor/1"},
          {"version", version()},
          {"revision", revision()},
          {"processor", machine.processor},
          {"cores", machine.cores},
          {"hardware_threads", machine.hardware_threads},
          {"instructions", machine.instructions},
          {"memory_bytes", machine.memory.count()},
          {"memory_available_bytes", machine.memory_available.count()},
          {"disk_free_bytes", machine.disk_free.count()},
          {"cuda_toolkit", found_json(machine.cuda_toolkit)},
          {"gpu", gpus_json(machine)},
          {"nccl", machine.nccl.empty() ? Json(nullptr) : Json(machine.nccl)},
          {"mpi", found_json(machine.mpi)},
          {"abilities", can}};
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const Machine machine = look_at_machine();
  Table table({{""}, {""}, {""}});
  for (const Ability& each : abilities(machine)) {
    table.row({Cell(each.works ? "yes" : "no", each.works ? Tone::Good : Tone::Warning), each.name,
               Cell(each.why, Tone::Faint)});
  }
  context.print(fmt::format("moecast {} ({})\n\n{}\n{}\n{}\n{}", version(), revision(),
                            context.style.paint("This machine", Tone::Strong),
                            facts_table(machine).text(context.style, "  "),
                            context.style.paint("What it can run", Tone::Strong), table.text(context.style, "  ")));
  return context.finish(machine_json(machine));
}

}  // namespace

Command doctor_command() {
  return {{.name = "doctor",
           .summary = "what this machine can run, what it cannot, and why",
           .options = with_result_file({}),
           .examples = {"moecast doctor", "moecast doctor --json"}},
          run};
}

}  // namespace moecast
