#include "runtime/cuda/gemm.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "runtime/cuda/status.h"

namespace moecast::cuda {
namespace {

cudaDataType_t data_type(Real type) { return type == Real::BF16 ? CUDA_R_16BF : CUDA_R_32F; }

/// Largest power of two, up to 256, that divides the address.
std::uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

/// The descriptors of one product. Row-major y = op(a) op(b) is column-major y^T = op(b)^T op(a)^T on the same memory:
/// the operands change places and every matrix keeps its transpose flag.
class Descriptors {
 public:
  explicit Descriptors(const Product& p) {
    const cublasOperation_t first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescInit(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    check(cublasLtMatmulDescSetAttribute(&matmul, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)));
    check(cublasLtMatmulDescSetAttribute(&matmul, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)));
    const auto [b_rows, b_columns] = p.transpose_b ? std::pair(p.n, p.k) : std::pair(p.k, p.n);
    const auto [a_rows, a_columns] = p.transpose_a ? std::pair(p.k, p.m) : std::pair(p.m, p.k);
    layout(&left, p.input, b_rows, b_columns, p.batch, p.stride_b);
    layout(&right, p.input, a_rows, a_columns, p.batch, p.stride_a);
    layout(&result, p.output, p.m, p.n, p.batch, p.stride_y);
  }

  cublasLtMatmulDescOpaque_t matmul;
  cublasLtMatrixLayoutOpaque_t left, right, result;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

 private:
  void check(cublasStatus_t code) {
    if (status == CUBLAS_STATUS_SUCCESS) status = code;
  }
  /// Row-major [rows, columns] as the library sees it: column-major [columns, rows].
  void layout(cublasLtMatrixLayout_t out, Real type, Index rows, Index columns, Index batch, Index stride) {
    check(cublasLtMatrixLayoutInit(out, data_type(type), static_cast<std::uint64_t>(columns),
                                   static_cast<std::uint64_t>(rows), columns));
    const std::int32_t count = static_cast<std::int32_t>(batch);
    check(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)));
    check(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)));
  }
};

Result<std::vector<cublasLtMatmulAlgo_t>> propose(cublasLtHandle_t handle, const Product& p, int limit) {
  Descriptors descriptors(p);
  RETURN_IF_ERROR(to_status(descriptors.status, "cublasLtMatmulDesc"));
  cublasLtMatmulPreferenceOpaque_t preference;
  RETURN_IF_ERROR(to_status(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit"));
  const std::uint64_t workspace = GemmEngine::kWorkspaceBytes;
  const std::pair<cublasLtMatmulPreferenceAttributes_t, std::uint32_t> alignments[] = {
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b)},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a)},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.y)},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.y)}};
  RETURN_IF_ERROR(to_status(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                                 &workspace, sizeof(workspace)),
                            "cublasLtMatmulPreferenceSetAttribute"));
  for (const auto& [attribute, bytes] : alignments) {
    RETURN_IF_ERROR(to_status(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &bytes, sizeof(bytes)),
                              "cublasLtMatmulPreferenceSetAttribute"));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(limit));
  int count = 0;
  RETURN_IF_ERROR(
      to_status(cublasLtMatmulAlgoGetHeuristic(handle, &descriptors.matmul, &descriptors.left, &descriptors.right,
                                               &descriptors.result, &descriptors.result, &preference, limit,
                                               found.data(), &count),
                fmt::format("cublasLtMatmulAlgoGetHeuristic [{},{}] k {} batch {}", p.m, p.n, p.k, p.batch)));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& each = found[static_cast<std::size_t>(i)];
    if (each.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(each.algo);
  }
  if (algorithms.empty()) {
    return Error{ErrorKind::RunFailed, "cublasLt", fmt::format("no algorithm for [{},{}] k {}", p.m, p.n, p.k)};
  }
  return algorithms;
}

Status multiply(cublasLtHandle_t handle, const Product& p, const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                cudaStream_t stream) {
  Descriptors descriptors(p);
  RETURN_IF_ERROR(to_status(descriptors.status, "cublasLtMatmulDesc"));
  const float one = 1;
  const float beta = p.accumulate ? 1.0f : 0.0f;
  return to_status(cublasLtMatmul(handle, &descriptors.matmul, &one, p.b, &descriptors.left, p.a, &descriptors.right,
                                  &beta, p.y, &descriptors.result, p.y, &descriptors.result, &algorithm, workspace,
                                  GemmEngine::kWorkspaceBytes, stream),
                   "cublasLtMatmul");
}

}  // namespace

Result<std::unique_ptr<GemmEngine>> GemmEngine::make() {
  cublasLtHandle_t handle = nullptr;
  RETURN_IF_ERROR(to_status(cublasLtCreate(&handle), "cublasLtCreate"));
  return std::unique_ptr<GemmEngine>(new GemmEngine(handle));
}

GemmEngine::~GemmEngine() { cublasLtDestroy(handle_); }

Result<cublasLtMatmulAlgo_t> GemmEngine::algorithm(const Product& product, const Key& key) {
  const std::lock_guard lock(mutex_);
  if (const auto found = cache_.find(key); found != cache_.end()) return found->second;
  const Result<std::vector<cublasLtMatmulAlgo_t>> proposed = propose(handle_, product, 1);
  if (!proposed.ok()) return proposed.error();
  return cache_.emplace(key, (*proposed)[0]).first->second;
}

Status GemmEngine::run(const Product& product, void* workspace, cudaStream_t stream, Index row_bucket, bool bucket_k) {
  Product typical = product;  // the shape that the algorithm is chosen for
  Index& varying = bucket_k ? typical.k : typical.m;
  varying = (varying + row_bucket - 1) / row_bucket * row_bucket;
  const int flags = (product.transpose_a ? 1 : 0) | (product.transpose_b ? 2 : 0) | (product.accumulate ? 4 : 0) |
                    (product.input == Real::BF16 ? 8 : 0) | (product.output == Real::BF16 ? 16 : 0);
  const Key key(typical.m, typical.n, typical.k, product.batch, flags, static_cast<int>(alignment(product.a)),
                static_cast<int>(alignment(product.b)), static_cast<int>(alignment(product.y)));
  const Result<cublasLtMatmulAlgo_t> chosen = algorithm(typical, key);
  if (!chosen.ok()) return chosen.error();
  const Status status = multiply(handle_, product, *chosen, workspace, stream);
  if (status.ok() || varying == (bucket_k ? product.k : product.m)) return status;
  const Result<std::vector<cublasLtMatmulAlgo_t>> exact = propose(handle_, product, 1);  // the bucket's does not fit
  if (!exact.ok()) return exact.error();
  return multiply(handle_, product, (*exact)[0], workspace, stream);
}

Result<std::vector<cublasLtMatmulAlgo_t>> GemmEngine::algorithms(const Product& product, int limit) {
  return propose(handle_, product, limit);
}

Status GemmEngine::run_with(const Product& product, const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                            cudaStream_t stream) {
  return multiply(handle_, product, algorithm, workspace, stream);
}

}  // namespace moecast::cuda
