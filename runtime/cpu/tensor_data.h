#pragma once

#include <span>

#include "base/assert.h"
#include "runtime/cpu/kernels.h"
#include "runtime/tensor.h"

namespace moecast::cpu {

template <typename T>
inline constexpr DType kDType = DType::F32;
template <>
inline constexpr DType kDType<double> = DType::F64;
template <>
inline constexpr DType kDType<std::int32_t> = DType::I32;

/// The elements of a tensor that must have type T and `count` elements.
template <typename T>
[[nodiscard]] T* elements(const Tensor& tensor, std::int64_t count) {
  ASSERT(tensor.dtype == kDType<T>, "dtype {} instead of {}", static_cast<int>(tensor.dtype),
         static_cast<int>(kDType<T>));
  ASSERT(tensor.element_count() == count, "{} elements instead of {}", tensor.element_count(), count);
  ASSERT(count == 0 || tensor.data != nullptr);
  return static_cast<T*>(tensor.data);
}

/// The same, or null for an empty tensor.
template <typename T>
[[nodiscard]] T* optional_elements(const Tensor& tensor, std::int64_t count) {
  return tensor.empty() ? nullptr : elements<T>(tensor, count);
}

/// Offsets must rise from 0 or more to at most `rows`; `weights` is the number of weight matrices or bias rows.
[[nodiscard]] inline Groups checked_groups(std::span<const std::int64_t> offsets, std::int64_t rows,
                                           std::int64_t weights) {
  ASSERT(!offsets.empty() && weights > 0, "{} offsets, {} weights", offsets.size(), weights);
  ASSERT(offsets.front() >= 0 && offsets.back() <= rows, "{}..{} of {} rows", offsets.front(), offsets.back(), rows);
  for (std::size_t g = 1; g < offsets.size(); ++g) {
    ASSERT(offsets[g - 1] <= offsets[g], "offset {} is {}, the next {}", g - 1, offsets[g - 1], offsets[g]);
  }
  return Groups{offsets.data(), static_cast<std::int64_t>(offsets.size()) - 1, weights};
}

}  // namespace moecast::cpu
