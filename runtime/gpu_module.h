#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "runtime/backend.h"
#include "runtime/comm/nccl_functions.h"

namespace moecast {

/// What the driver says of one GPU.
struct GpuDevice {
  int index = 0;
  std::string name;  // "NVIDIA H100 80GB HBM3"
  Bytes memory{};
  int multiprocessors = 0;
  int capability_major = 0;
  int capability_minor = 0;
};

struct GpuMachine {
  std::string driver;   // highest CUDA version that the driver supports, "13.0"
  std::string runtime;  // CUDA runtime of the module
  std::string cublas;   // version of the loaded library
  std::vector<GpuDevice> devices;
};

/// What the GPU module offers. The module is a shared library of its own (moecast_gpu.so), opened at the first use, so
/// that the program starts without a driver or CUDA libraries.
struct GpuModule {
  Result<GpuMachine> (*describe)();
  Result<std::unique_ptr<Backend>> (*make_backend)(int device);
  Result<const NcclFunctions*> (*load_nccl)();
};

/// Changes whenever GpuModule or a class that crosses the border (Backend, Tensor, NcclFunctions) does.
inline constexpr int kGpuModuleAbi = 2;
/// The module's only symbol: `extern "C" const GpuModule* moecast_gpu_module(int abi)`, null if the numbers differ.
inline constexpr const char* kGpuModuleEntry = "moecast_gpu_module";

/// Opens the module once for each call site's process; later calls return the same module. Search order: the file that
/// the environment variable MOECAST_GPU_MODULE names, then moecast_gpu.so in the executable's folder, then in
/// ../lib/moecast seen from there. Unavailable, with the reason of the last attempt, if it cannot be opened.
[[nodiscard]] Result<const GpuModule*> load_gpu_module();

/// The GPUs of this machine. Unavailable, with the reason, without a module, driver or device.
[[nodiscard]] Result<GpuMachine> describe_gpus();

/// NCCL, of the library that this machine has (libnccl.so.2). Unavailable, with the reason, without it or as above.
[[nodiscard]] Result<const NcclFunctions*> load_nccl();

/// The CUDA backend on one device: BF16 or F32, one stream for each lane. Unavailable as above.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_cuda_backend(int device);

}  // namespace moecast
