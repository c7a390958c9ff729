#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/backend.h"

namespace moecast {

/// Operands of benches: tensors cut out of memory that is kept and used again, so that a measurement neither allocates
/// nor meets fresh pages. Inputs hold random values in [-1, 1) and are never written. Outputs hold whatever earlier
/// kernels left (random values at first). One object serves one rank.
class Operands {
 public:
  Operands(Backend& backend, DType compute);

  /// Takes all tensors back; their memory is handed out again.
  void reset();

  [[nodiscard]] Tensor input(DType dtype, std::initializer_list<std::int64_t> shape);
  [[nodiscard]] Tensor output(DType dtype, std::initializer_list<std::int64_t> shape);
  /// An output that starts with random values: for kernels that work in place and would wear their operand down.
  [[nodiscard]] Tensor fresh_output(DType dtype, std::initializer_list<std::int64_t> shape);
  /// I32 values in [0, limit), uniform.
  [[nodiscard]] Tensor indices(std::initializer_list<std::int64_t> shape, std::int64_t limit);
  /// I32 [tokens, choices]: distinct rows of `row_count`, far from one another, as a permutation by expert gives.
  [[nodiscard]] Tensor scattered_rows(std::int64_t tokens, std::int64_t choices, std::int64_t row_count);

  [[nodiscard]] DType compute() const { return compute_; }
  /// Of gradients of weights, gate tensors and optimizer state.
  [[nodiscard]] DType state() const { return compute_ == DType::F64 ? DType::F64 : DType::F32; }
  /// The first allocation that failed; every tensor since then is empty.
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  struct Region {
    struct Block {
      std::unique_ptr<DeviceMemory> memory;
      std::int64_t used = 0;
    };
    std::vector<Block> blocks;
  };
  [[nodiscard]] Tensor take(Region& region, DType dtype, std::initializer_list<std::int64_t> shape);
  [[nodiscard]] std::optional<std::size_t> block_with(Region& region, std::int64_t bytes);
  void fill_random(void* memory, std::int64_t bytes);

  Backend& backend_;
  DType compute_;
  std::vector<std::byte> random_;  // values of the compute dtype, uploaded again and again
  Region inputs_, outputs_;
  Status status_;
};

}  // namespace moecast
