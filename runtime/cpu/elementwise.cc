#include <bit>
#include <cmath>

#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

/// The upper half of a float; conversion rounds to nearest, ties to even, and keeps NaN a NaN.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = word + 0x7FFFu + ((word >> 16) & 1u);
    bits = static_cast<std::uint16_t>(std::isnan(value) ? (word >> 16) | 0x40u : rounded >> 16);
  }
  explicit BFloat16(double value) : BFloat16(static_cast<float>(value)) {}
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

template <typename To, typename From>
void convert(void* y, const void* x, std::int64_t count) {
  To* to = static_cast<To*>(y);
  const From* from = static_cast<const From*>(x);
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

template <typename From>
void convert_from(Tensor y, const void* x) {
  switch (y.dtype) {
    case DType::F32:
      return convert<float, From>(y.data, x, y.element_count());
    case DType::F64:
      return convert<double, From>(y.data, x, y.element_count());
    case DType::BF16:
      return convert<BFloat16, From>(y.data, x, y.element_count());
    case DType::I32:
      ASSERT(false, "cast of integers");
  }
}

template <typename T>
void fill_all(Tensor y, T value) {
  T* data = static_cast<T*>(y.data);
  for (std::int64_t i = 0; i < y.element_count(); ++i) data[i] = value;
}

}  // namespace

void CpuBackend::fill(Lane, Tensor y, double value) {
  switch (y.dtype) {
    case DType::F32:
      return fill_all(y, static_cast<float>(value));
    case DType::F64:
      return fill_all(y, value);
    case DType::BF16:
      return fill_all(y, BFloat16(value));
    case DType::I32:
      return fill_all(y, static_cast<std::int32_t>(value));
  }
}

void CpuBackend::cast(Lane, Tensor y, Tensor x) {
  ASSERT(y.element_count() == x.element_count(), "{} elements from {}", y.element_count(), x.element_count());
  switch (x.dtype) {
    case DType::F32:
      return convert_from<float>(y, x.data);
    case DType::F64:
      return convert_from<double>(y, x.data);
    case DType::BF16:
      return convert_from<BFloat16>(y, x.data);
    case DType::I32:
      ASSERT(false, "cast of integers");
  }
}

void CpuBackend::add(Lane, Tensor y, Tensor x) {
  with_scalar(y.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = y.element_count();
    kernels.add(elements<T>(y, count), elements<T>(x, count), count);
  });
}

void CpuBackend::add_scaled_rows(Lane, Tensor y, Tensor x, Tensor c) {
  with_scalar(y.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = y.element_count();
    kernels.add_scaled_rows(elements<T>(y, count), elements<T>(x, count), optional_elements<T>(c, y.rows()), y.rows(),
                            y.columns());
  });
}

void CpuBackend::scaled_rows_backward(Lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) {
  with_scalar(dy.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = dy.element_count();
    kernels.scaled_rows_backward(elements<T>(dy, count), elements<T>(x, count), optional_elements<T>(c, dy.rows()),
                                 elements<T>(dx, count), optional_elements<T>(dc, dy.rows()), dy.rows(), dy.columns());
  });
}

void CpuBackend::sigmoid(Lane, Tensor c) {
  with_scalar(c.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.sigmoid(elements<T>(c, c.element_count()), c.element_count());
  });
}

void CpuBackend::sigmoid_backward(Lane, Tensor c, Tensor dc) {
  with_scalar(c.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = c.element_count();
    kernels.sigmoid_backward(elements<T>(c, count), elements<T>(dc, count), count);
  });
}

/// The softmax of two values is the sigmoid of their difference.
void CpuBackend::softmax_pairs(Lane, Tensor c) {
  with_scalar(c.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t pairs = c.shape[1];
    T* first = elements<T>(c, 2 * pairs);
    T* second = first + pairs;
    for (std::int64_t i = 0; i < pairs; ++i) first[i] -= second[i];
    kernels.sigmoid(first, pairs);
    for (std::int64_t i = 0; i < pairs; ++i) second[i] = T(1) - first[i];
  });
}

void CpuBackend::softmax_pairs_backward(Lane, Tensor c, Tensor dc) {
  with_scalar(c.dtype, [&]<typename T>(const Kernels<T>&) {
    const std::int64_t pairs = c.shape[1];
    const T* value = elements<T>(c, 2 * pairs);
    T* gradient = elements<T>(dc, 2 * pairs);
    for (std::int64_t i = 0; i < pairs; ++i) {
      const T slope = value[i] * value[i + pairs] * (gradient[i] - gradient[i + pairs]);
      gradient[i] = slope;
      gradient[i + pairs] = -slope;
    }
  });
}

}  // namespace moecast::cpu
