#include <cublas_v2.h>
#include <dlfcn.h>
#include <fmt/core.h>

#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/nccl.h"
#include "runtime/cuda/status.h"
#include "runtime/gpu_module.h"

namespace moecast::cuda {
namespace {

std::string cuda_version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

std::string cublas_version() {
  int parts[3] = {};
  cublasGetProperty(MAJOR_VERSION, &parts[0]);
  cublasGetProperty(MINOR_VERSION, &parts[1]);
  cublasGetProperty(PATCH_LEVEL, &parts[2]);
  return fmt::format("{}.{}.{}", parts[0], parts[1], parts[2]);
}

Result<GpuDevice> describe_device(int index) {
  cudaDeviceProp properties;
  RETURN_IF_ERROR(to_status(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  return GpuDevice{index,
                   properties.name,
                   Bytes(static_cast<std::int64_t>(properties.totalGlobalMem)),
                   properties.multiProcessorCount,
                   properties.major,
                   properties.minor};
}

Result<GpuMachine> describe() {
  GpuMachine machine;
  int driver = 0;
  int runtime = 0;
  RETURN_IF_ERROR(to_status(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
  RETURN_IF_ERROR(to_status(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion"));
  machine.driver = cuda_version(driver);
  machine.runtime = cuda_version(runtime);
  machine.cublas = cublas_version();
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) {
    return Error{ErrorKind::Unavailable, "CUDA device", cudaGetErrorString(code)};
  }
  for (int i = 0; i < count; ++i) {
    Result<GpuDevice> device = describe_device(i);
    if (!device.ok()) return device.error();
    machine.devices.push_back(*device);
  }
  return machine;
}

constexpr GpuModule kModule = {&describe, &CudaBackend::make, &load_nccl};

}  // namespace
}  // namespace moecast::cuda

extern "C" __attribute__((visibility("default"))) const moecast::GpuModule* moecast_gpu_module(int abi) {
  return abi == moecast::kGpuModuleAbi ? &moecast::cuda::kModule : nullptr;
}
