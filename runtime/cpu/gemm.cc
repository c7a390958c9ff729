#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {

void CpuBackend::gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) {
  with_scalar(y.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    Gemm<T> product;
    product.transpose_a = transpose_a;
    product.transpose_b = transpose_b;
    product.m = y.rows();
    product.n = y.columns();
    product.lda = a.columns();
    product.ldb = b.columns();
    product.ldy = y.columns();
    product.k = transpose_a ? a.rows() : a.columns();
    const std::int64_t rows_a = transpose_a ? a.columns() : a.rows();
    const std::int64_t columns_b = transpose_b ? b.rows() : b.columns();
    ASSERT(rows_a == product.m && columns_b == product.n, "[{},{}] from [{},k] [k,{}]", product.m, product.n, rows_a,
           columns_b);
    product.a = elements<T>(a, product.m * product.k);
    product.b = elements<T>(b, product.k * product.n);
    product.y = elements<T>(y, product.m * product.n);
    product.accumulate = accumulate;
    kernels.gemm(product, scratch(lane));
  });
}

void CpuBackend::grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                              Tensor y) {
  ASSERT(w.dims == 3, "w must be [W,K,N]");
  with_scalar(y.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t k = x.columns();
    const std::int64_t n = y.columns();
    ASSERT(w.shape[transpose_w ? 2 : 1] == k && w.shape[transpose_w ? 1 : 2] == n, "w [{},{}], k {}, n {}", w.shape[1],
           w.shape[2], k, n);
    kernels.grouped_gemm(checked_groups(offsets, x.rows(), w.shape[0]), elements<T>(x, x.element_count()),
                         elements<T>(w, w.element_count()), transpose_w, k, n, elements<T>(y, x.rows() * n),
                         scratch(lane));
  });
}

void CpuBackend::grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets, Tensor dw) {
  ASSERT(dw.dims == 3, "dw must be [W,K,N]");
  with_scalar(dw.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t k = x.columns();
    const std::int64_t n = dy.columns();
    ASSERT(dw.shape[1] == k && dw.shape[2] == n, "dw [{},{}], k {}, n {}", dw.shape[1], dw.shape[2], k, n);
    kernels.grouped_gemm_weight(checked_groups(offsets, x.rows(), dw.shape[0]), elements<T>(x, x.element_count()),
                                elements<T>(dy, x.rows() * n), k, n, elements<T>(dw, dw.element_count()),
                                scratch(lane));
  });
}

}  // namespace moecast::cpu
