#include <cmath>
#include <cstring>

#include "runtime/cpu/kernels/blocks.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

template <typename T>
void embedding(const std::int32_t* ids, const T* tokens, const T* positions, Index sequence, Index rows, Index columns,
               T* out) {
  for (Index t = 0; t < rows; ++t, out += columns) {
    std::memcpy(out, tokens + ids[t] * columns, static_cast<std::size_t>(columns) * sizeof(T));
    if (positions != nullptr) add_row(out, T(1), positions + (t % sequence) * columns, columns);
  }
}

template <typename T>
void embedding_backward(const std::int32_t* ids, const T* dout, Index sequence, Index rows, Index columns, T* dtokens,
                        T* dpositions) {
  for (Index t = 0; t < rows; ++t, dout += columns) {
    add_row(dtokens + ids[t] * columns, T(1), dout, columns);
    if (dpositions != nullptr) add_row(dpositions + (t % sequence) * columns, T(1), dout, columns);
  }
}

template <typename T>
void cross_entropy(T* logits, const std::int32_t* targets, T scale, T* loss, Index rows, Index columns) {
  for (Index t = 0; t < rows; ++t, logits += columns) {
    const T largest = maximum(static_cast<const T*>(logits), columns);
    const T target = logits[targets[t]];
    const T sum = exponentials(logits, largest, columns);
    loss[t] = largest + std::log(sum) - target;
    scale_row(logits, scale / sum, logits, columns);
    logits[targets[t]] -= scale;
  }
}

}  // namespace

template <typename T>
void add_embedding_kernels(Kernels<T>& table) {
  table.embedding = embedding<T>;
  table.embedding_backward = embedding_backward<T>;
  table.cross_entropy = cross_entropy<T>;
}

template void add_embedding_kernels(Kernels<float>&);
template void add_embedding_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
