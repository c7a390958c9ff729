#pragma once

#include <cstdint>

#include "base/assert.h"
#include "runtime/cuda/kernels/launch.h"
#include "runtime/tensor.h"

/// Pointers out of tensors, with the caller's contract checked.
namespace moecast::cuda {

[[nodiscard]] inline Real real(const Tensor& tensor) {
  ASSERT(tensor.dtype == DType::BF16 || tensor.dtype == DType::F32, "the GPU computes in BF16 or F32");
  return tensor.dtype == DType::BF16 ? Real::BF16 : Real::F32;
}

[[nodiscard]] inline Number number(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::F32:
      return Number::F32;
    case DType::F64:
      return Number::F64;
    case DType::BF16:
      return Number::BF16;
    case DType::I32:
      return Number::I32;
  }
  return Number::F32;
}

/// The data of a tensor that has `count` elements.
[[nodiscard]] inline void* data(const Tensor& tensor, Index count) {
  ASSERT(tensor.element_count() == count, "{} elements, {} expected", tensor.element_count(), count);
  return tensor.data;
}
/// Of type X, like `like`.
[[nodiscard]] inline void* data_like(const Tensor& tensor, const Tensor& like, Index count) {
  ASSERT(tensor.dtype == like.dtype, "two dtypes in one call");
  return data(tensor, count);
}
[[nodiscard]] inline void* optional_data_like(const Tensor& tensor, const Tensor& like, Index count) {
  return tensor.empty() ? nullptr : data_like(tensor, like, count);
}
[[nodiscard]] inline float* floats(const Tensor& tensor, Index count) {
  ASSERT(tensor.dtype == DType::F32, "an F32 tensor is expected");
  return static_cast<float*>(data(tensor, count));
}
[[nodiscard]] inline float* optional_floats(const Tensor& tensor, Index count) {
  return tensor.empty() ? nullptr : floats(tensor, count);
}
[[nodiscard]] inline std::int32_t* integers(const Tensor& tensor, Index count) {
  ASSERT(tensor.dtype == DType::I32, "an I32 tensor is expected");
  return static_cast<std::int32_t*>(data(tensor, count));
}

}  // namespace moecast::cuda
