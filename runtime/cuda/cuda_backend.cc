#include "runtime/cuda/cuda_backend.h"

#include <fmt/core.h>

#include "runtime/cuda/status.h"

namespace moecast::cuda {

CudaBackend::CudaBackend(int device, const cudaDeviceProp& properties)
    : device_(device), device_name_(properties.name), multiprocessors_(properties.multiProcessorCount) {}

Result<std::unique_ptr<Backend>> CudaBackend::make(int device) {
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess || count == 0) {
    const char* reason = code == cudaSuccess ? "none found" : cudaGetErrorString(code);
    return Error{ErrorKind::Unavailable, "CUDA device", reason};
  }
  if (device < 0 || device >= count) {
    return Error{ErrorKind::Unavailable, "CUDA device",
                 fmt::format("number {} was asked for; this machine has {}, numbered from 0", device, count)};
  }
  RETURN_IF_ERROR(to_status(cudaSetDevice(device), "cudaSetDevice"));
  cudaDeviceProp properties;
  RETURN_IF_ERROR(to_status(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties"));
  if (properties.major < 8) {
    return Error{ErrorKind::Unavailable, properties.name,
                 fmt::format("has compute capability {}.{}; BF16 needs 8.0", properties.major, properties.minor)};
  }
  std::unique_ptr<CudaBackend> backend(new CudaBackend(device, properties));
  Result<std::unique_ptr<GemmEngine>> gemm = GemmEngine::make();
  if (!gemm.ok()) return gemm.error();
  backend->gemm_ = std::move(gemm).value();
  int lowest = 0;
  int highest = 0;
  RETURN_IF_ERROR(to_status(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange"));
  for (int lane = 0; lane < kLaneCount; ++lane) {
    const bool communication = static_cast<Lane>(lane) == Lane::Comm;  // short kernels that others wait for go first
    RETURN_IF_ERROR(backend->lanes_[static_cast<std::size_t>(lane)].create(communication ? highest : lowest));
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(device_);
  cudaDeviceSynchronize();
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

void CudaBackend::note(const Status& status) {
  if (status.ok()) return;
  const std::lock_guard lock(error_mutex_);
  if (!first_error_) first_error_ = status.error();
}

void CudaBackend::note(cudaError_t code, std::string_view operation) {
  if (code != cudaSuccess) note(to_status(code, operation));
}

Status CudaBackend::check() {
  for (int lane = 0; lane < kLaneCount; ++lane) {
    const cudaError_t code = cudaStreamQuery(select(static_cast<Lane>(lane)).stream);
    if (code != cudaErrorNotReady) note(code, "kernel");
  }
  note(cudaGetLastError(), "kernel");
  const std::lock_guard lock(error_mutex_);
  if (!first_error_) return {};
  Error error = *std::exchange(first_error_, std::nullopt);
  error.place = fmt::format("{} {}: {}", device_name_, device_, error.place);
  return error;
}

LaneState& CudaBackend::select(Lane lane) {
  note(cudaSetDevice(device_), "cudaSetDevice");  // of the calling thread; cheap when nothing changes
  return lanes_[static_cast<std::size_t>(lane)];
}

void* CudaBackend::scratch_bytes(LaneState& lane, Index bytes) {
  const Result<void*> memory = lane.scratch.reserve(bytes);
  if (memory.ok()) return *memory;
  note(Status(memory.error()));
  return nullptr;
}

void* CudaBackend::workspace(LaneState& lane, int stream_index) {
  const Result<void*> memory =
      lane.workspace[static_cast<std::size_t>(stream_index)].reserve(GemmEngine::kWorkspaceBytes);
  if (memory.ok()) return *memory;
  note(Status(memory.error()));
  return nullptr;
}

}  // namespace moecast::cuda
