#include "runtime/cpu/kernels/gemm.h"

#include <cstring>

#include <Eigen/Core>

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

/// Eigen's block sizes with packing buffers of ours: Eigen would allocate them anew in every product.
template <typename T>
class LaneBlocking : public Eigen::internal::level3_blocking<T, T> {
 public:
  LaneBlocking(Index rows, Index columns, Index depth, Scratch& scratch) {
    this->m_mc = rows;
    this->m_nc = columns;
    this->m_kc = depth;
    Eigen::internal::computeProductBlockingSizes<T, T>(this->m_kc, this->m_mc, this->m_nc, Eigen::Index(1));
    const Index left = (this->m_mc * this->m_kc + 15) / 16 * 16;  // 16 elements: the right part stays aligned
    const Index right = this->m_kc * this->m_nc;
    this->m_blockA =
        static_cast<T*>(scratch.reserve(Scratch::Slot::Pack, static_cast<std::size_t>(left + right) * sizeof(T)));
    this->m_blockB = this->m_blockA + left;
  }
};

template <typename T>
void clear(T* y, Index rows, Index columns, Index stride) {
  for (Index r = 0; r < rows; ++r) std::memset(y + r * stride, 0, static_cast<std::size_t>(columns) * sizeof(T));
}

/// Eigen's kernels write column-major results; a row-major y is the transpose of one: y^T = op(b)^T op(a)^T, and a
/// row-major operand is column-major once transposed.
template <typename T, bool kTransposeA, bool kTransposeB>
void multiply(const Gemm<T>& p, Scratch& scratch) {
  constexpr int kLeft = kTransposeB ? Eigen::RowMajor : Eigen::ColMajor;
  constexpr int kRight = kTransposeA ? Eigen::RowMajor : Eigen::ColMajor;
  LaneBlocking<T> blocking(p.n, p.m, p.k, scratch);
  Eigen::internal::general_matrix_matrix_product<Eigen::Index, T, kLeft, false, T, kRight, false, Eigen::ColMajor,
                                                 1>::run(p.n, p.m, p.k, p.b, p.ldb, p.a, p.lda, p.y, 1, p.ldy, p.alpha,
                                                         blocking);
}

template <typename T>
void grouped_gemm(const Groups& groups, const T* x, const T* w, bool transpose_w, Index k, Index n, T* y,
                  Scratch& scratch) {
  for (Index g = 0; g < groups.group_count; ++g) {
    const Index begin = groups.offsets[g];
    Gemm<T> product;
    product.transpose_b = transpose_w;
    product.m = groups.offsets[g + 1] - begin;
    product.n = n;
    product.k = k;
    product.a = x + begin * k;
    product.lda = k;
    product.b = w + (g % groups.weights) * k * n;
    product.ldb = transpose_w ? k : n;
    product.y = y + begin * n;
    product.ldy = n;
    gemm(product, scratch);
  }
}

template <typename T>
void grouped_gemm_weight(const Groups& groups, const T* x, const T* dy, Index k, Index n, T* dw, Scratch& scratch) {
  for (Index g = 0; g < groups.group_count; ++g) {
    const Index begin = groups.offsets[g];
    Gemm<T> product;
    product.transpose_a = true;
    product.m = k;
    product.n = n;
    product.k = groups.offsets[g + 1] - begin;
    product.a = x + begin * k;
    product.lda = k;
    product.b = dy + begin * n;
    product.ldb = n;
    product.y = dw + (g % groups.weights) * k * n;
    product.ldy = n;
    product.accumulate = true;
    gemm(product, scratch);
  }
}

}  // namespace

template <typename T>
void gemm(const Gemm<T>& product, Scratch& scratch) {
  if (product.m == 0 || product.n == 0) return;
  if (!product.accumulate) clear(product.y, product.m, product.n, product.ldy);
  if (product.k == 0) return;
  if (product.transpose_a) {
    product.transpose_b ? multiply<T, true, true>(product, scratch) : multiply<T, true, false>(product, scratch);
  } else {
    product.transpose_b ? multiply<T, false, true>(product, scratch) : multiply<T, false, false>(product, scratch);
  }
}

template void gemm(const Gemm<float>&, Scratch&);
template void gemm(const Gemm<double>&, Scratch&);

template <typename T>
void add_gemm_kernels(Kernels<T>& table) {
  table.gemm = gemm<T>;
  table.grouped_gemm = grouped_gemm<T>;
  table.grouped_gemm_weight = grouped_gemm_weight<T>;
}

template void add_gemm_kernels(Kernels<float>&);
template void add_gemm_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
