#include <cstring>

#include "runtime/cpu/kernels/blocks.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

/// Clears the rows of y[row_count, columns] that no choice names.
template <typename T>
void clear_unnamed_rows(const std::int32_t* row, Index choice_count, T* y, Index row_count, Index columns,
                        Scratch& scratch) {
  const std::size_t size = static_cast<std::size_t>(row_count);
  char* named = static_cast<char*>(scratch.reserve(Scratch::Slot::Work, size));
  std::memset(named, 0, size);
  for (Index i = 0; i < choice_count; ++i) {
    if (row[i] >= 0) named[row[i]] = 1;
  }
  for (Index r = 0; r < row_count; ++r) {
    if (named[r] == 0) std::memset(y + r * columns, 0, static_cast<std::size_t>(columns) * sizeof(T));
  }
}

template <typename T>
void clear_row(T* y, Index columns) {
  std::memset(y, 0, static_cast<std::size_t>(columns) * sizeof(T));
}

template <typename T>
void permute(const T* x, const std::int32_t* row, Index tokens, Index choices, Index columns, T* out, Index out_rows,
             Scratch& scratch) {
  clear_unnamed_rows(row, tokens * choices, out, out_rows, columns, scratch);
  for (Index i = 0; i < tokens * choices; ++i) {
    if (row[i] < 0) continue;
    std::memcpy(out + row[i] * columns, x + i / choices * columns, static_cast<std::size_t>(columns) * sizeof(T));
  }
}

template <typename T>
void permute_backward(const T* dout, const std::int32_t* row, Index tokens, Index choices, Index columns, T* dx,
                      bool accumulate) {
  for (Index t = 0; t < tokens; ++t, dx += columns, row += choices) {
    if (!accumulate) clear_row(dx, columns);
    for (Index j = 0; j < choices; ++j) {
      if (row[j] >= 0) add_row(dx, T(1), dout + row[j] * columns, columns);
    }
  }
}

template <typename T>
void unpermute(const T* rows, const std::int32_t* row, const T* weight, Index tokens, Index choices, Index columns,
               T* out, bool accumulate) {
  for (Index t = 0; t < tokens; ++t, out += columns, row += choices, weight += choices) {
    if (!accumulate) clear_row(out, columns);
    for (Index j = 0; j < choices; ++j) {
      if (row[j] >= 0) add_row(out, weight[j], rows + row[j] * columns, columns);
    }
  }
}

template <typename T>
void unpermute_backward(const T* dout, const T* rows, const std::int32_t* row, const T* weight, Index tokens,
                        Index choices, Index columns, T* drows, Index row_count, T* dweight, Scratch& scratch) {
  clear_unnamed_rows(row, tokens * choices, drows, row_count, columns, scratch);
  for (Index i = 0; i < tokens * choices; ++i) {
    const T* dy = dout + i / choices * columns;
    dweight[i] = row[i] < 0 ? T(0) : dot(dy, rows + row[i] * columns, columns);
    if (row[i] >= 0) scale_row(drows + row[i] * columns, weight[i], dy, columns);
  }
}

}  // namespace

template <typename T>
void add_permute_kernels(Kernels<T>& table) {
  table.permute = permute<T>;
  table.permute_backward = permute_backward<T>;
  table.unpermute = unpermute<T>;
  table.unpermute_backward = unpermute_backward<T>;
}

template void add_permute_kernels(Kernels<float>&);
template void add_permute_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
