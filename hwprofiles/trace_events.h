#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace moecast {

/// What a profile wants to know of one event of a PyTorch profiler trace (Kineto's dialect of Chrome's trace format).
struct TraceEvent {
  std::string name;
  std::string category;                         // "kernel", "cpu_op", "gpu_memcpy", ...
  double microseconds = 0;                      // how long
  std::optional<std::int64_t> external_id;      // of a kernel: the operator that launched it
  std::vector<std::vector<std::int64_t>> dims;  // of an operator: its inputs' shapes; of what is no tensor, empty
  std::vector<std::string> types;               // of an operator: its inputs' types ("c10::BFloat16")
  std::vector<std::string> values;              // of an operator: its inputs that are no tensors ("True", "0.1")
  std::optional<std::int64_t> bytes;            // of a copy
  // Of a collective.
  std::string collective, dtype;
  std::int64_t elements_in = 0, elements_out = 0, group_size = 0;
};

/// What stands beside the events.
struct TraceHeader {
  std::string device;  // the first GPU's name
  std::string nccl_version;
  std::int64_t rank = 0, world_size = 0;
};

/// Is it a trace, compressed (gzip) or not? Looks at its beginning.
[[nodiscard]] bool looks_like_trace(const std::filesystem::path& path);

/// Calls `take` for every complete event, in the file's order; keeps none. BadInput if the file cannot be read, was cut
/// off or is no JSON.
[[nodiscard]] Result<TraceHeader> read_trace(const std::filesystem::path& path,
                                             const std::function<void(const TraceEvent&)>& take);

}  // namespace moecast
