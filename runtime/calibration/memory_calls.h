#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "models/step_plan.h"
#include "runtime/calibration/operands.h"

namespace moecast {

/// Backend calls for MemoryWork: sizes that the work does not state follow from its bytes (models/operator_work.cc says
/// how bytes are charged). One object serves the operand sets of one work.
class MemoryCalls {
 public:
  using Call = std::function<void()>;

  MemoryCalls(Backend& backend, Operands& operands, Lane lane) : backend_(backend), operands_(operands), lane_(lane) {}

  /// A call on a new set of operands; tensors are captured by value, as they are views.
  [[nodiscard]] Call call(const MemoryWork& work);

 private:
  Tensor input(std::initializer_list<std::int64_t> shape) { return operands_.input(operands_.compute(), shape); }
  Tensor output(std::initializer_list<std::int64_t> shape) { return operands_.output(operands_.compute(), shape); }
  Tensor state_input(std::initializer_list<std::int64_t> shape) { return operands_.input(operands_.state(), shape); }
  Tensor state_output(std::initializer_list<std::int64_t> shape) { return operands_.output(operands_.state(), shape); }
  [[nodiscard]] std::int64_t element() const { return bytes_per_element(operands_.compute()); }
  [[nodiscard]] std::int64_t state_element() const { return bytes_per_element(operands_.state()); }

  /// Of the embedding table, which all operand sets share: 4 MiB of float, and not more rows than a small vocabulary.
  static std::int64_t table_rows(std::int64_t columns) {
    return std::clamp<std::int64_t>((std::int64_t{1} << 20) / columns, 1, 4096);
  }

  /// Rows that the bytes of a kernel amount to: its charges are whole rows of `columns` elements of X.
  [[nodiscard]] std::int64_t charged_rows(const MemoryWork& work) const {
    return work.bytes.count() / (work.columns * element());
  }

  Call norm_call(const MemoryWork& work);
  Call activation_call(const MemoryWork& work);
  Call bias_call(const MemoryWork& work);
  Call vocabulary_call(const MemoryWork& work);
  Call gate_call(const MemoryWork& work);
  Call permute_call(const MemoryWork& work);
  Call permute_call(MemoryKernel kernel, std::int64_t tokens, std::int64_t choices, std::int64_t buffer_rows,
                    std::int64_t columns);
  Call scaled_rows_call(const MemoryWork& work);
  Call rope_call(const MemoryWork& work);
  Call optimizer_call(const MemoryWork& work);
  Call elementwise_call(const MemoryWork& work);

  Backend& backend_;
  Operands& operands_;
  Lane lane_;
  Tensor table_;  // of the embedding, shared by all sets
};

}  // namespace moecast
