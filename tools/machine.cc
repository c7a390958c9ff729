#include "tools/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include <fmt/format.h>

#include "base/file.h"
#include "runtime/cpu/instructions.h"
#include "tools/terminal.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  const Result<std::string> text = read_file(path);
  return text.ok() ? *text : std::string();
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The first line that begins with `start`, without it.
std::string_view line_after(std::string_view text, std::string_view start) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.substr(0, start.size()) == start) return line.substr(start.size());
    at = end + 1;
  }
  return {};
}

std::optional<std::int64_t> leading_integer(std::string_view text) {
  text = trimmed(text);
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc{} ? std::optional(value) : std::nullopt;
}

std::int64_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

/// A limit that a container sets on memory, if any.
std::optional<Bytes> memory_limit() {
  const std::optional<std::int64_t> limit = leading_integer(content("/sys/fs/cgroup/memory.max"));
  return limit ? std::optional(Bytes(*limit)) : std::nullopt;
}

Found find_program(const std::string& name, const std::vector<fs::path>& more_folders) {
  std::vector<fs::path> folders;
  const std::string path = environment_of_process("PATH");
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    if (end > at) folders.emplace_back(path.substr(at, end - at));
    at = end + 1;
  }
  folders.insert(folders.end(), more_folders.begin(), more_folders.end());
  std::error_code error;
  for (const fs::path& folder : folders) {
    if (fs::is_regular_file(folder / name, error)) return {(folder / name).string(), ""};
  }
  return {};
}

Found find_cuda_toolkit() {
  std::vector<fs::path> folders;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string home = environment_of_process(name); !home.empty()) folders.push_back(fs::path(home) / "bin");
  }
  folders.emplace_back("/usr/local/cuda/bin");
  Found found = find_program("nvcc", folders);
  if (found.path.empty()) return found;
  std::error_code error;
  const fs::path real = fs::weakly_canonical(found.path, error);
  found.version = cuda_version_of_header(content(real.parent_path().parent_path() / "include" / "cuda.h"));
  return found;
}

}  // namespace

std::string cpuinfo_value(std::string_view text, std::string_view name) {
  const std::string_view rest = trimmed(line_after(text, name));
  return rest.empty() || rest.front() != ':' ? std::string() : std::string(trimmed(rest.substr(1)));
}

std::optional<Bytes> meminfo_value(std::string_view text, std::string_view name) {
  const std::optional<std::int64_t> kibibytes = leading_integer(line_after(text, fmt::format("{}:", name)));
  return kibibytes ? std::optional(Bytes(*kibibytes * 1024)) : std::nullopt;
}

std::string cuda_version_of_header(std::string_view text) {
  const std::optional<std::int64_t> number = leading_integer(line_after(text, "#define CUDA_VERSION"));
  return number ? fmt::format("{}.{}", *number / 1000, *number % 1000 / 10) : std::string();
}

Machine look_at_machine() {
  Machine machine;
  machine.processor = cpuinfo_value(content("/proc/cpuinfo"), "model name");
  machine.cores = usable_cores();
  machine.hardware_threads = std::max(1U, std::thread::hardware_concurrency());
  for (const CpuInstructions each : supported_cpu_instructions()) machine.instructions.emplace_back(to_text(each));
  std::thread([&] { machine.communication_wakeup = ask_for_prompt_wakeups(); }).join();
  const std::string memory = content("/proc/meminfo");
  machine.memory = meminfo_value(memory, "MemTotal").value_or(Bytes(0));
  machine.memory_available = meminfo_value(memory, "MemAvailable").value_or(Bytes(0));
  if (const std::optional<Bytes> limit = memory_limit()) machine.memory = std::min(machine.memory, *limit);
  std::error_code error;
  machine.folder = fs::current_path(error);
  if (const fs::space_info space = fs::space(machine.folder, error); !error) {
    machine.disk_free = Bytes(static_cast<std::int64_t>(space.available));
  }
  machine.cuda_toolkit = find_cuda_toolkit();
  machine.mpi = find_program("mpirun", {});
#ifdef MOECAST_HAS_GPU_MODULE
  machine.built_with_gpu_module = true;
#endif
  machine.gpus = describe_gpus();
  if (const Result<const NcclFunctions*> nccl = load_nccl(); nccl.ok()) machine.nccl = (*nccl)->version;
  return machine;
}

}  // namespace moecast
