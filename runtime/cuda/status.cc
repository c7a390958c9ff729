#include "runtime/cuda/status.h"

#include <fmt/core.h>

namespace moecast::cuda {

Status to_status(cudaError_t code, std::string_view call) {
  if (code == cudaSuccess) return {};
  return Error{ErrorKind::RunFailed, std::string(call),
               fmt::format("{} ({})", cudaGetErrorString(code), cudaGetErrorName(code))};
}

Status to_status(cublasStatus_t code, std::string_view call) {
  if (code == CUBLAS_STATUS_SUCCESS) return {};
  return Error{ErrorKind::RunFailed, std::string(call), cublasGetStatusString(code)};
}

}  // namespace moecast::cuda
