#pragma once

#include <cstddef>
#include <string>

#include "models/step_plan.h"
#include "runtime/tensor.h"

namespace moecast {

class Backend;

/// What the ranks of one NCCL communicator have in common; made by one, known to all (ncclUniqueId).
struct NcclUniqueId {
  char bytes[128] = {};
};
using NcclHandle = void*;  // ncclComm_t
using NcclStream = void*;  // cudaStream_t
using NcclEvent = void*;   // cudaEvent_t

/// Values of ncclResult_t.
inline constexpr int kNcclSuccess = 0;
inline constexpr int kNcclInProgress = 7;

/// NCCL, as much of it as a communicator needs, and what it needs of the device: a table, so that host code is compiled
/// without CUDA and tests bring a library of their own. The GPU module fills it from libnccl.so.2, opened at the first
/// use. An int is an ncclResult_t. Handles are non-blocking: every call may return kNcclInProgress, and async_error
/// tells when it has ended, and how. Sizes and meanings as in nccl.h; send and receive move bytes.
struct NcclFunctions {
  std::string version;  // "2.28.9"
  int (*get_unique_id)(NcclUniqueId* id) = nullptr;
  /// `max_ctas`: blocks, each on a multiprocessor of its own, that a call may use; 0: NCCL's choice.
  int (*init)(NcclHandle* handle, int size, const NcclUniqueId* id, int rank, int max_ctas) = nullptr;
  int (*async_error)(NcclHandle handle, int* code) = nullptr;
  int (*finalize)(NcclHandle handle) = nullptr;
  int (*destroy)(NcclHandle handle) = nullptr;
  /// Ends what is under way, on the device too, and frees the handle.
  int (*abort)(NcclHandle handle) = nullptr;

  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*send)(const void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) = nullptr;
  int (*receive)(void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) = nullptr;
  int (*all_reduce)(void* buffer, std::size_t count, DType dtype, NcclHandle handle, NcclStream stream) = nullptr;
  int (*reduce_scatter)(const void* buffer, void* shard, std::size_t shard_count, DType dtype, NcclHandle handle,
                        NcclStream stream) = nullptr;
  int (*all_gather)(const void* shard, void* buffer, std::size_t shard_count, DType dtype, NcclHandle handle,
                    NcclStream stream) = nullptr;
  int (*broadcast)(void* buffer, std::size_t bytes, int root, NcclHandle handle, NcclStream stream) = nullptr;
  /// The code in words, with what NCCL says of its last error.
  std::string (*describe)(int code, NcclHandle handle) = nullptr;

  /// The lane's stream; the backend's device becomes the calling thread's.
  NcclStream (*stream)(Backend& backend, Lane lane) = nullptr;
  NcclEvent (*create_event)() = nullptr;
  void (*destroy_event)(NcclEvent event) = nullptr;
  void (*record_event)(NcclEvent event, NcclStream stream) = nullptr;
  /// Or the device has failed: then the backend tells.
  bool (*has_happened)(NcclEvent event) = nullptr;
};

}  // namespace moecast
