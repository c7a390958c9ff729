#pragma once

#include <cstring>
#include <limits>

#include <Eigen/Core>

#include "runtime/cpu/kernels/families.h"

namespace moecast::cpu::MOECAST_CPU_ISA {

/// Vectors of 64 bytes, whatever the register width: the compiler splits or joins them. Every element, also of an
/// incomplete last block, takes the same vector path, so a value does not depend on its position or on alignment.
template <typename T>
inline constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
template <typename T>
using Lanes = Eigen::Array<T, kLanes<T>, 1>;

/// kLanes elements beginning at `at`.
template <typename T>
struct FullBlock {
  Index at;
  Eigen::Map<const Lanes<T>> load(const T* x) const { return Eigen::Map<const Lanes<T>>(x + at); }
  Eigen::Map<const Lanes<T>> load_or(const T* x, T) const { return load(x); }
  template <typename Value>
  void store(T* y, const Value& value) const {
    Eigen::Map<Lanes<T>>(y + at) = value;
  }
};

/// The incomplete last block: missing elements read as zero (or as given) and are not written.
template <typename T>
struct PartBlock {
  Index at;
  Index count;
  Lanes<T> load(const T* x) const { return load_or(x, T(0)); }
  Lanes<T> load_or(const T* x, T missing) const {
    Lanes<T> value = Lanes<T>::Constant(missing);
    std::memcpy(value.data(), x + at, static_cast<std::size_t>(count) * sizeof(T));
    return value;
  }
  template <typename Value>
  void store(T* y, const Value& expression) const {
    const Lanes<T> value = expression;
    std::memcpy(y + at, value.data(), static_cast<std::size_t>(count) * sizeof(T));
  }
};

/// Calls body(block) for all blocks of [0, count).
template <typename T, typename Body>
void for_blocks(Index count, const Body& body) {
  Index at = 0;
  for (; at + kLanes<T> <= count; at += kLanes<T>) body(FullBlock<T>{at});
  if (at < count) body(PartBlock<T>{at, count - at});
}

/// Sum over blocks of term(block) in one fixed order. Terms of missing elements (which read as zero) must be zero.
template <typename T, typename Term>
T sum_blocks(Index count, const Term& term) {
  Lanes<T> sum = Lanes<T>::Zero();
  for_blocks<T>(count, [&](auto block) { sum += term(block); });
  return sum.sum();
}

template <typename T>
T dot(const T* a, const T* b, Index count) {
  return sum_blocks<T>(count, [&](auto block) { return (block.load(a) * block.load(b)).eval(); });
}

template <typename T>
T maximum(const T* x, Index count) {
  Lanes<T> best = Lanes<T>::Constant(x[0]);
  for_blocks<T>(count, [&](auto block) { best = best.max(block.load_or(x, x[0])); });
  return best.maxCoeff();
}

/// x = exp(x - shift); returns the sum of the results.
template <typename T>
T exponentials(T* x, T shift, Index count) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  return sum_blocks<T>(count, [&](auto block) {
    const Lanes<T> value = (block.load_or(x, kNothing) - shift).exp();
    block.store(x, value);
    return value;
  });
}

/// y = a * x
template <typename T>
void scale_row(T* y, T a, const T* x, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(y, a * block.load(x)); });
}

/// y += a * x
template <typename T>
void add_row(T* y, T a, const T* x, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(y, block.load(y) + a * block.load(x)); });
}

}  // namespace moecast::cpu::MOECAST_CPU_ISA
