#pragma once

#include <cstdint>
#include <initializer_list>

#include "runtime/tensor.h"

namespace moecast {

/// Hands out tensors one after the other from one piece of memory. Without memory it only counts, so that the same code
/// first measures what it needs and then carves it.
class Arena {
 public:
  explicit Arena(void* memory = nullptr) : base_(reinterpret_cast<std::uintptr_t>(memory)) {}

  [[nodiscard]] Tensor take(DType dtype, std::initializer_list<std::int64_t> shape) {
    Tensor tensor(nullptr, dtype, shape);
    tensor.data = reinterpret_cast<void*>(base_ + used_);
    const auto bytes = static_cast<std::uintptr_t>(tensor.bytes().count());
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return tensor;
  }
  [[nodiscard]] Bytes used() const { return Bytes(static_cast<std::int64_t>(used_)); }

 private:
  static constexpr std::uintptr_t kAlignment = 64;  // a cache line; the allocation itself is aligned by the backend
  std::uintptr_t base_;
  std::uintptr_t used_ = 0;
};

}  // namespace moecast
