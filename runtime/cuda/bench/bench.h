#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/cuda/bench/table.h"
#include "runtime/cuda/cuda_backend.h"

namespace moecast::cuda {

/// What all benches share: the device, tensors of random values, the clock (device events) and the limits.
class Bench {
 public:
  Bench(CudaBackend& backend, Table& table) : backend_(backend), table_(table) {}

  static constexpr Lane kLane = Lane::Compute;
  [[nodiscard]] CudaBackend& backend() { return backend_; }
  [[nodiscard]] Table& table() { return table_; }

  /// Random values (a pattern of a million, repeated); uniform in [-1, 1). Owned until `release`.
  [[nodiscard]] Tensor random(DType dtype, std::initializer_list<std::int64_t> shape);
  [[nodiscard]] Tensor integers(std::initializer_list<std::int64_t> shape, const std::vector<std::int32_t>& values);
  [[nodiscard]] Tensor empty(DType dtype, std::initializer_list<std::int64_t> shape);
  void release();

  /// Median seconds of one call: warm-up, then seven samples of at least two milliseconds each.
  [[nodiscard]] double seconds(const std::function<void()>& call);

  /// Limits, measured by measure_limits: device copy (bytes read plus written) and the best large BF16 product.
  double copy_bytes_per_second = 0;
  double flops_per_second = 0;

 private:
  CudaBackend& backend_;
  Table& table_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

void measure_limits(Bench& bench);
void bench_products(Bench& bench);
void bench_grouped_products(Bench& bench);
void bench_memory_bound(Bench& bench);
void bench_attention(Bench& bench);
void bench_transfers(Bench& bench);
void bench_moe_layer(Bench& bench);

}  // namespace moecast::cuda
