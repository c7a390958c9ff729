#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/assert.h"
#include "base/units.h"

namespace moecast {

enum class DType { F32, F64, BF16, I32 };

[[nodiscard]] constexpr std::int64_t bytes_per_element(DType dtype) {
  switch (dtype) {
    case DType::F64:
      return 8;
    case DType::BF16:
      return 2;
    case DType::F32:
    case DType::I32:
      return 4;
  }
  return 0;
}

/// A borrowed view of memory of one backend; row-major, dense. Never owns; up to four dimensions.
struct Tensor {
  static constexpr int kMaxDims = 4;

  void* data = nullptr;
  DType dtype = DType::F32;
  std::array<std::int64_t, kMaxDims> shape = {0, 1, 1, 1};
  int dims = 1;

  Tensor() = default;
  Tensor(void* memory, DType type, std::initializer_list<std::int64_t> sizes)
      : data(memory), dtype(type), dims(static_cast<int>(sizes.size())) {
    ASSERT(sizes.size() >= 1 && sizes.size() <= kMaxDims);
    shape = {1, 1, 1, 1};
    std::size_t i = 0;
    for (const std::int64_t size : sizes) shape[i++] = size;
  }

  [[nodiscard]] bool empty() const { return data == nullptr; }
  [[nodiscard]] std::int64_t element_count() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  [[nodiscard]] Bytes bytes() const { return Bytes(element_count() * bytes_per_element(dtype)); }
  /// The last dimension; `rows` is the product of all others.
  [[nodiscard]] std::int64_t columns() const { return shape[static_cast<std::size_t>(dims - 1)]; }
  [[nodiscard]] std::int64_t rows() const { return columns() == 0 ? 0 : element_count() / columns(); }

  template <typename T>
  [[nodiscard]] T* as() const {
    ASSERT(static_cast<std::int64_t>(sizeof(T)) == bytes_per_element(dtype));
    return static_cast<T*>(data);
  }

  /// The same memory seen with other sizes; the element count must not change.
  [[nodiscard]] Tensor reshaped(std::initializer_list<std::int64_t> sizes) const {
    Tensor view(data, dtype, sizes);
    ASSERT(view.element_count() == element_count(), "{} elements reshaped to {}", element_count(),
           view.element_count());
    return view;
  }
  /// Rows [begin, end) of the first dimension.
  [[nodiscard]] Tensor slice(std::int64_t begin, std::int64_t end) const {
    ASSERT(0 <= begin && begin <= end && end <= shape[0], "slice {}..{} of {}", begin, end, shape[0]);
    Tensor view = *this;
    const std::int64_t stride = shape[0] == 0 ? 0 : element_count() / shape[0];
    view.data = static_cast<char*>(data) + begin * stride * bytes_per_element(dtype);
    view.shape[0] = end - begin;
    return view;
  }
};

}  // namespace moecast
