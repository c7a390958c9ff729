#include <algorithm>

#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/status.h"
#include "runtime/cuda/tensor_data.h"

namespace moecast::cuda {
namespace {

/// Token counts that round up to the same multiple share an algorithm.
constexpr Index kRowBucket = 256;

/// Rows of every group if they are all alike and cover the weights evenly: then one batched product does many groups.
Index common_rows(std::span<const std::int64_t> offsets, Index weights) {
  const Index groups = static_cast<Index>(offsets.size()) - 1;
  const Index rows = offsets[1] - offsets[0];
  if (groups % weights != 0) return 0;
  for (std::size_t g = 1; g + 1 < offsets.size(); ++g) {
    if (offsets[g + 1] - offsets[g] != rows) return 0;
  }
  return rows;
}

const void* element(const Tensor& tensor, Index index) {
  return static_cast<const char*>(tensor.data) + index * bytes_per_element(tensor.dtype);
}
void* element(Tensor& tensor, Index index) {
  return static_cast<char*>(tensor.data) + index * bytes_per_element(tensor.dtype);
}

void check_groups(std::span<const std::int64_t> offsets, Index rows) {
  ASSERT(offsets.size() >= 2, "no groups");
  ASSERT(std::is_sorted(offsets.begin(), offsets.end()) && offsets.front() >= 0 && offsets.back() <= rows,
         "offsets {} to {} of {} rows", offsets.front(), offsets.back(), rows);
}

}  // namespace

void CudaBackend::gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) {
  Product product;
  product.transpose_a = transpose_a;
  product.transpose_b = transpose_b;
  product.m = y.rows();
  product.n = y.columns();
  product.k = transpose_a ? a.rows() : a.columns();
  const Index rows_a = transpose_a ? a.columns() : a.rows();
  const Index columns_b = transpose_b ? b.rows() : b.columns();
  ASSERT(rows_a == product.m && columns_b == product.n, "[{},{}] from [{},k] [k,{}]", product.m, product.n, rows_a,
         columns_b);
  product.a = data(a, product.m * product.k);
  product.b = data_like(b, a, product.k * product.n);
  product.y = y.data;
  product.input = real(a);
  product.output = real(y);
  product.accumulate = accumulate;
  if (product.m == 0 || product.n == 0) return;
  if (product.k == 0) {
    if (!accumulate) fill(lane, y, 0);
    return;
  }
  LaneState& state = select(lane);
  note(gemm_->run(product, workspace(state, 0), state.stream));
}

void CudaBackend::grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                               Tensor y) {
  ASSERT(w.dims == 3, "w must be [W,K,N]");
  check_groups(offsets, x.rows());
  const Index weights = w.shape[0];
  Product typical;
  typical.transpose_b = transpose_w;
  typical.n = y.columns();
  typical.k = x.columns();
  typical.input = real(x);
  typical.output = real(y);
  ASSERT(w.shape[transpose_w ? 2 : 1] == typical.k && w.shape[transpose_w ? 1 : 2] == typical.n,
         "w [{},{}], k {}, n {}", w.shape[1], w.shape[2], typical.k, typical.n);
  ASSERT(y.rows() == x.rows() && w.dtype == x.dtype);
  const Index matrix = typical.k * typical.n;
  const auto product_of = [&](Index first_row, Index rows, Index weight) {
    Product product = typical;
    product.m = rows;
    product.a = element(x, first_row * typical.k);
    product.b = element(std::as_const(w), weight * matrix);
    product.y = element(y, first_row * typical.n);
    return product;
  };
  LaneState& state = select(lane);
  if (const Index rows = common_rows(offsets, weights); rows > 0) {
    for (std::size_t g = 0; g + 1 < offsets.size(); g += static_cast<std::size_t>(weights)) {
      Product product = product_of(offsets[g], rows, 0);
      product.batch = weights;
      product.stride_a = rows * typical.k;
      product.stride_b = matrix;
      product.stride_y = rows * typical.n;
      note(gemm_->run(product, workspace(state, 0), state.stream));
    }
    return;
  }
  std::vector<GroupProduct> products;
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    const Index rows = offsets[g + 1] - offsets[g];
    if (rows == 0) continue;
    products.push_back({product_of(offsets[g], rows, static_cast<Index>(g) % weights), static_cast<Index>(g)});
  }
  run_side_by_side(state, std::move(products), false);
}

void CudaBackend::grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets,
                                      Tensor dw) {
  ASSERT(dw.dims == 3, "dw must be [W,K,N]");
  check_groups(offsets, x.rows());
  const Index weights = dw.shape[0];
  Product typical;
  typical.transpose_a = true;
  typical.m = x.columns();
  typical.n = dy.columns();
  typical.input = real(x);
  typical.output = real(dw);
  typical.accumulate = true;
  ASSERT(dw.shape[1] == typical.m && dw.shape[2] == typical.n, "dw [{},{}], k {}, n {}", dw.shape[1], dw.shape[2],
         typical.m, typical.n);
  ASSERT(dy.rows() == x.rows() && dy.dtype == x.dtype);
  const Index matrix = typical.m * typical.n;
  const auto product_of = [&](Index first_row, Index rows, Index weight) {
    Product product = typical;
    product.k = rows;
    product.a = element(x, first_row * typical.m);
    product.b = element(std::as_const(dy), first_row * typical.n);
    product.y = element(dw, weight * matrix);
    return product;
  };
  LaneState& state = select(lane);
  if (const Index rows = common_rows(offsets, weights); rows > 0) {
    for (std::size_t g = 0; g + 1 < offsets.size(); g += static_cast<std::size_t>(weights)) {
      Product product = product_of(offsets[g], rows, 0);
      product.batch = weights;
      product.stride_a = rows * typical.m;
      product.stride_b = rows * typical.n;
      product.stride_y = matrix;
      note(gemm_->run(product, workspace(state, 0), state.stream));
    }
    return;
  }
  std::vector<GroupProduct> products;
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    const Index rows = offsets[g + 1] - offsets[g];
    if (rows == 0) continue;
    const Index weight = static_cast<Index>(g) % weights;
    products.push_back({product_of(offsets[g], rows, weight), weight});  // one weight's groups add in order
  }
  run_side_by_side(state, std::move(products), true);
}

void CudaBackend::run_side_by_side(LaneState& lane, std::vector<GroupProduct> products, bool bucket_k) {
  if (products.empty()) return;
  constexpr Index kStreams = LaneState::kHelpers + 1;
  const bool fork = products.size() > 1;
  if (fork) {
    note(lane.create_helpers());
    note(cudaEventRecord(lane.fork, lane.stream), "grouped product");
    for (cudaStream_t helper : lane.helper) note(cudaStreamWaitEvent(helper, lane.fork, 0), "grouped product");
  }
  for (const GroupProduct& each : products) {
    const int index = fork ? static_cast<int>(each.order % kStreams) : 0;
    cudaStream_t stream = index == 0 ? lane.stream : lane.helper[static_cast<std::size_t>(index - 1)];
    note(gemm_->run(each.product, workspace(lane, index), stream, kRowBucket, bucket_k));
  }
  if (!fork) return;
  for (std::size_t i = 0; i < lane.helper.size(); ++i) {
    note(cudaEventRecord(lane.join[i], lane.helper[i]), "grouped product");
    note(cudaStreamWaitEvent(lane.stream, lane.join[i], 0), "grouped product");
  }
}

}  // namespace moecast::cuda
