#include "runtime/cuda/lane.h"

#include <fmt/core.h>

#include <algorithm>

#include "runtime/cuda/status.h"

namespace moecast::cuda {

Scratch::~Scratch() {
  if (data_ != nullptr) cudaFree(data_);
}

Result<void*> Scratch::reserve(std::int64_t bytes) {
  if (bytes <= size_ && data_ != nullptr) return data_;
  if (data_ != nullptr) cudaFree(data_);  // waits until the device no longer uses it
  data_ = nullptr;
  size_ = 0;
  const std::int64_t size = std::max<std::int64_t>(bytes, 1024);
  const Status status = to_status(cudaMalloc(&data_, static_cast<std::size_t>(size)), "cudaMalloc");
  if (!status.ok()) {
    data_ = nullptr;
    return Error{ErrorKind::RunFailed, "device memory",
                 fmt::format("{} bytes of scratch: {}", size, status.error().message)};
  }
  size_ = size;
  return data_;
}

LaneState::~LaneState() {
  for (cudaStream_t each : helper) {
    if (each != nullptr) cudaStreamDestroy(each);
  }
  for (cudaEvent_t each : join) {
    if (each != nullptr) cudaEventDestroy(each);
  }
  if (fork != nullptr) cudaEventDestroy(fork);
  if (stream != nullptr) cudaStreamDestroy(stream);
}

Status LaneState::create(int priority) {
  return to_status(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority),
                   "cudaStreamCreateWithPriority");
}

Status LaneState::create_helpers() {
  if (fork != nullptr) return {};
  for (cudaStream_t& each : helper) {
    RETURN_IF_ERROR(to_status(cudaStreamCreateWithFlags(&each, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
  }
  for (cudaEvent_t& each : join) {
    RETURN_IF_ERROR(to_status(cudaEventCreateWithFlags(&each, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
  }
  return to_status(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

}  // namespace moecast::cuda
