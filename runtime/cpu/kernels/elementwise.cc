#include "runtime/cpu/kernels/blocks.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

template <typename T>
void add(T* y, const T* x, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(y, block.load(y) + block.load(x)); });
}

template <typename T>
void add_scaled_rows(T* y, const T* x, const T* c, Index rows, Index columns) {
  if (c == nullptr) return add(y, x, rows * columns);
  for (Index r = 0; r < rows; ++r) add_row(y + r * columns, c[r], x + r * columns, columns);
}

template <typename T>
void scaled_rows_backward(const T* dy, const T* x, const T* c, T* dx, T* dc, Index rows, Index columns) {
  for (Index r = 0; r < rows; ++r, dy += columns, x += columns, dx += columns) {
    if (dc != nullptr) dc[r] = dot(dy, x, columns);  // before dx, which may be the memory of dy
    scale_row(dx, c == nullptr ? T(1) : c[r], dy, columns);
  }
}

template <typename T>
void sigmoid(T* c, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(c, T(1) / (T(1) + (-block.load(c)).exp())); });
}

template <typename T>
void sigmoid_backward(const T* c, T* dc, Index count) {
  for_blocks<T>(count, [&](auto block) { block.store(dc, block.load(dc) * block.load(c) * (T(1) - block.load(c))); });
}

}  // namespace

template <typename T>
void add_elementwise_kernels(Kernels<T>& table) {
  table.add = add<T>;
  table.add_scaled_rows = add_scaled_rows<T>;
  table.scaled_rows_backward = scaled_rows_backward<T>;
  table.sigmoid = sigmoid<T>;
  table.sigmoid_backward = sigmoid_backward<T>;
}

template void add_elementwise_kernels(Kernels<float>&);
template void add_elementwise_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
