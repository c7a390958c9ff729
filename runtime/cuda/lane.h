#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/result.h"
#include "runtime/tensor.h"

namespace moecast::cuda {

/// Device memory that grows on demand and keeps its size: a steady state allocates nothing. The contents do not
/// survive the next call of `reserve`. Growing waits for the device.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  /// At least `bytes`; null, with the error, if the device is full.
  [[nodiscard]] Result<void*> reserve(std::int64_t bytes);

 private:
  void* data_ = nullptr;
  std::int64_t size_ = 0;
};

/// Cosines and sines of the rotary embedding on the device, for one (theta, sequence, head_dim).
struct RopeTable {
  double theta = 0;
  std::int64_t sequence = 0;
  std::int64_t head_dim = 0;
  Scratch memory;
};

/// What one lane owns: its stream, helper streams for independent products, and memory that no other lane touches.
struct LaneState {
  static constexpr int kHelpers = 3;

  LaneState() = default;
  ~LaneState();
  LaneState(const LaneState&) = delete;
  LaneState& operator=(const LaneState&) = delete;

  /// Creates the stream; helpers and workspaces come at their first use.
  [[nodiscard]] Status create(int priority);
  /// Helper streams and their events.
  [[nodiscard]] Status create_helpers();

  cudaStream_t stream = nullptr;
  std::array<cudaStream_t, kHelpers> helper = {};
  cudaEvent_t fork = nullptr;
  std::array<cudaEvent_t, kHelpers> join = {};
  Scratch scratch;
  std::array<Scratch, kHelpers + 1> workspace;  // of cuBLASLt: the stream's, then the helpers'
  RopeTable rope;
};

}  // namespace moecast::cuda
