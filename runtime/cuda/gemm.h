#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "runtime/cuda/kernels/launch.h"

namespace moecast::cuda {

/// y[m,n] = op(a) op(b) (+ y), row-major and dense, for `batch` equally spaced problems (strides in elements).
struct Product {
  bool transpose_a = false;
  bool transpose_b = false;
  Index m = 0, n = 0, k = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  Real input = Real::BF16;  // of a and b
  Real output = Real::BF16;
  bool accumulate = false;
  Index batch = 1;
  Index stride_a = 0, stride_b = 0, stride_y = 0;
};

/// cuBLASLt with one algorithm for each shape, taken from its heuristics at the first use: the same shape always runs
/// the same algorithm, so a run repeats bit for bit. Sums are F32 throughout (no TF32). May be called from any thread;
/// calls with one workspace must be ordered by one stream.
class GemmEngine {
 public:
  static constexpr std::int64_t kWorkspaceBytes = 32 << 20;

  [[nodiscard]] static Result<std::unique_ptr<GemmEngine>> make();
  ~GemmEngine();
  GemmEngine(const GemmEngine&) = delete;
  GemmEngine& operator=(const GemmEngine&) = delete;

  /// `row_bucket` > 1 shares one algorithm among products whose m (or, if `bucket_k`, whose k) rounds up to the same
  /// multiple: token counts of experts change with every step.
  [[nodiscard]] Status run(const Product& product, void* workspace, cudaStream_t stream, Index row_bucket = 1,
                           bool bucket_k = false);
  /// The algorithms that the library proposes for the product, best first by its own estimate; for benches.
  [[nodiscard]] Result<std::vector<cublasLtMatmulAlgo_t>> algorithms(const Product& product, int limit);
  [[nodiscard]] Status run_with(const Product& product, const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                                cudaStream_t stream);

 private:
  /// Everything that the choice of an algorithm depends on; alignments are powers of two up to 256.
  using Key = std::tuple<Index, Index, Index, Index, int, int, int, int>;

  explicit GemmEngine(cublasLtHandle_t handle) : handle_(handle) {}
  [[nodiscard]] Result<cublasLtMatmulAlgo_t> algorithm(const Product& product, const Key& key);

  cublasLtHandle_t handle_;
  std::mutex mutex_;  // of the cache
  std::map<Key, cublasLtMatmulAlgo_t> cache_;
};

}  // namespace moecast::cuda
