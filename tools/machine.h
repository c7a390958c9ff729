#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "runtime/gpu_module.h"
#include "runtime/prompt_wakeup.h"

namespace moecast {

/// A piece of software that may be on this machine.
struct Found {
  std::string path;     // empty: not found
  std::string version;  // empty: unknown
};

/// What `moecast doctor` found, without judging it.
struct Machine {
  std::string processor;   // "AMD EPYC 7B13"
  std::int64_t cores = 1;  // that this process may use
  std::int64_t hardware_threads = 1;
  std::vector<std::string> instructions;  // the CPU kernels' instruction sets that run here, best last
  Wakeup communication_wakeup = Wakeup::InTurn;
  Bytes memory{0};
  Bytes memory_available{0};
  std::filesystem::path folder;  // the working folder, where results go
  Bytes disk_free{0};
  Found cuda_toolkit;
  Found mpi;
  bool built_with_gpu_module = false;
  std::string nccl;  // its version; empty: none that the GPU module could open
  Result<GpuMachine> gpus = Error{ErrorKind::Unavailable, "GPU module", "not asked"};
};

[[nodiscard]] Machine look_at_machine();

// Parsers of what the system says, for tests.
/// The value of "name : value" in /proc/cpuinfo; "" if there is none.
[[nodiscard]] std::string cpuinfo_value(std::string_view text, std::string_view name);
/// "MemTotal:  16 kB" of /proc/meminfo.
[[nodiscard]] std::optional<Bytes> meminfo_value(std::string_view text, std::string_view name);
/// "13.0" from the line "#define CUDA_VERSION 13000" of cuda.h.
[[nodiscard]] std::string cuda_version_of_header(std::string_view text);

}  // namespace moecast
