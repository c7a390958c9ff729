#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <string_view>

#include "base/result.h"

namespace moecast::cuda {

/// Library status codes as errors, with the call that returned them as the place.
[[nodiscard]] Status to_status(cudaError_t code, std::string_view call);
[[nodiscard]] Status to_status(cublasStatus_t code, std::string_view call);

}  // namespace moecast::cuda
