#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/status.h"

namespace moecast::cuda {
namespace {

class Memory final : public DeviceMemory {
 public:
  Memory(void* data, Bytes size, bool host) : data_(data), size_(size), host_(host) {}
  ~Memory() override { host_ ? cudaFreeHost(data_) : cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const override { return data_; }
  Bytes size() const override { return size_; }

 private:
  void* data_;
  Bytes size_;
  bool host_;
};

Result<std::unique_ptr<DeviceMemory>> make_memory(Bytes size, bool host) {
  ASSERT(size.count() >= 0, "{} bytes", size.count());
  const std::size_t bytes = static_cast<std::size_t>(std::max<std::int64_t>(size.count(), 1));
  void* data = nullptr;
  const cudaError_t code = host ? cudaHostAlloc(&data, bytes, cudaHostAllocPortable) : cudaMalloc(&data, bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the caller may go on with less
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    return Error{
        ErrorKind::RunFailed, host ? "pinned host memory" : "device memory",
        fmt::format("{} asked for, {} of {} free on the device", pretty(size),
                    pretty(Bytes(static_cast<std::int64_t>(free))), pretty(Bytes(static_cast<std::int64_t>(total))))};
  }
  RETURN_IF_ERROR(to_status(code, host ? "cudaHostAlloc" : "cudaMalloc"));
  return std::unique_ptr<DeviceMemory>(std::make_unique<Memory>(data, size, host));
}

std::size_t byte_count(const Tensor& tensor) { return static_cast<std::size_t>(tensor.bytes().count()); }

}  // namespace

Result<std::unique_ptr<DeviceMemory>> CudaBackend::allocate(Bytes size) {
  static_cast<void>(select(Lane::Compute));
  return make_memory(size, false);
}

Result<std::unique_ptr<DeviceMemory>> CudaBackend::allocate_host(Bytes size) {
  static_cast<void>(select(Lane::Compute));
  return make_memory(size, true);
}

void CudaBackend::copy(Lane lane, Tensor destination, Tensor source) {
  ASSERT(destination.dtype == source.dtype);
  ASSERT(destination.element_count() == source.element_count(), "{} elements from {}", destination.element_count(),
         source.element_count());
  if (source.element_count() == 0) return;
  note(
      cudaMemcpyAsync(destination.data, source.data, byte_count(source), cudaMemcpyDeviceToDevice, select(lane).stream),
      "copy");
}

void CudaBackend::upload(Lane lane, Tensor destination, const void* source) {
  if (destination.element_count() == 0) return;
  note(cudaMemcpyAsync(destination.data, source, byte_count(destination), cudaMemcpyHostToDevice, select(lane).stream),
       "upload");
}

void CudaBackend::download(Lane lane, void* destination, Tensor source) {
  if (source.element_count() == 0) return;
  note(cudaMemcpyAsync(destination, source.data, byte_count(source), cudaMemcpyDeviceToHost, select(lane).stream),
       "download");
}

void CudaBackend::synchronize(Lane lane) { note(cudaStreamSynchronize(select(lane).stream), "synchronize"); }

void CudaBackend::reserve_events(int capacity) {
  ASSERT(capacity >= 0, "{}", capacity);
  static_cast<void>(select(Lane::Compute));
  const std::size_t wanted = static_cast<std::size_t>(capacity);
  while (events_.size() > wanted) {
    note(cudaEventDestroy(events_.back()), "cudaEventDestroy");
    events_.pop_back();
  }
  while (events_.size() < wanted) {
    cudaEvent_t event = nullptr;
    note(cudaEventCreate(&event), "cudaEventCreate");
    events_.push_back(event);
  }
}

void CudaBackend::record_event(Lane lane, int index) {
  note(cudaEventRecord(events_.at(static_cast<std::size_t>(index)), select(lane).stream), "record_event");
}

void CudaBackend::wait_event(Lane lane, int index) {
  note(cudaStreamWaitEvent(select(lane).stream, events_.at(static_cast<std::size_t>(index)), 0), "wait_event");
}

Duration CudaBackend::elapsed(int from, int to) {
  float milliseconds = 0;
  note(cudaEventElapsedTime(&milliseconds, events_.at(static_cast<std::size_t>(from)),
                            events_.at(static_cast<std::size_t>(to))),
       "elapsed");
  return Duration(std::llround(static_cast<double>(milliseconds) * 1e6));
}

}  // namespace moecast::cuda
