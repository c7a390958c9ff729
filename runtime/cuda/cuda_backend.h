#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backend.h"
#include "runtime/cuda/gemm.h"
#include "runtime/cuda/lane.h"

namespace moecast::cuda {

/// One GPU: checks shapes and types, then queues kernels (kernels/launch.h) and cuBLAS products on the lane's stream.
/// Every operator repeats bit for bit: no floating-point atomics, one algorithm for each product shape. The first error
/// of any call is kept until `check`. Methods are in the file of their family.
class CudaBackend final : public Backend {
 public:
  /// Unavailable if there is no such device or it is older than compute capability 8.0.
  [[nodiscard]] static Result<std::unique_ptr<Backend>> make(int device);
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string name() const override { return "cuda"; }
  std::string device_name() const override { return device_name_; }
  bool asynchronous() const override { return true; }
  Status check() override;

  /// For what shares this backend's device and lanes: communicators and benches.
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] cudaStream_t stream(Lane lane) { return select(lane).stream; }
  [[nodiscard]] GemmEngine& gemm_engine() { return *gemm_; }
  /// Keeps the first error.
  void note(const Status& status);

  // memory.cc
  Result<std::unique_ptr<DeviceMemory>> allocate(Bytes size) override;
  Result<std::unique_ptr<DeviceMemory>> allocate_host(Bytes size) override;
  void copy(Lane lane, Tensor destination, Tensor source) override;
  void upload(Lane lane, Tensor destination, const void* source) override;
  void download(Lane lane, void* destination, Tensor source) override;
  void synchronize(Lane lane) override;
  void reserve_events(int capacity) override;
  void record_event(Lane lane, int index) override;
  void wait_event(Lane lane, int index) override;
  Duration elapsed(int from, int to) override;

  // elementwise.cc
  void fill(Lane lane, Tensor y, double value) override;
  void add(Lane lane, Tensor y, Tensor x) override;
  void cast(Lane lane, Tensor y, Tensor x) override;
  void add_scaled_rows(Lane lane, Tensor y, Tensor x, Tensor c) override;
  void scaled_rows_backward(Lane lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) override;
  void sigmoid(Lane lane, Tensor c) override;
  void sigmoid_backward(Lane lane, Tensor c, Tensor dc) override;
  void softmax_pairs(Lane lane, Tensor c) override;
  void softmax_pairs_backward(Lane lane, Tensor c, Tensor dc) override;

  // products.cc
  void gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) override;
  void grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                    Tensor y) override;
  void grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets, Tensor dw) override;

  // layers.cc
  void bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) override;
  void bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) override;
  void activation(Lane lane, Activation kind, Tensor pre, Tensor out) override;
  void activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) override;
  void norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
            Tensor rstd) override;
  void norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd, Tensor dx,
                     bool accumulate, Tensor dgain, Tensor dbias) override;
  void embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) override;
  void embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                          Tensor dpositions) override;
  void cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) override;
  void adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
             Tensor second_moment, Tensor weight) override;
  void follow_load(Lane lane, double rate, double mean, Tensor load, Tensor bias, Tensor weight) override;
  void squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) override;

  // attention.cc
  void attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) override;
  void attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                          Tensor dout, Tensor dqkv) override;
  void rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) override;

  // routing.cc
  void gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
            const GateTensors& out) override;
  void gate_backward(Lane lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                     const GateLossScales& scales, const GateGradients& gradients) override;
  void permute(Lane lane, Tensor x, Tensor row, Tensor out) override;
  void permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) override;
  void unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) override;
  void unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                          Tensor dweight) override;

 private:
  CudaBackend(int device, const cudaDeviceProp& properties);

  /// The lane's state, with this device made the calling thread's.
  [[nodiscard]] LaneState& select(Lane lane);
  void note(cudaError_t code, std::string_view operation);
  /// Scratch of the lane for `count` elements of T; null (and noted) if the device is full.
  template <typename T>
  [[nodiscard]] T* scratch(LaneState& lane, Index count) {
    return static_cast<T*>(scratch_bytes(lane, count * static_cast<Index>(sizeof(T))));
  }
  [[nodiscard]] void* scratch_bytes(LaneState& lane, Index bytes);
  [[nodiscard]] void* workspace(LaneState& lane, int stream_index);
  /// Products of a group each; those with one `order` number run in sequence, others may run side by side.
  struct GroupProduct {
    Product product;
    Index order = 0;
  };
  void run_side_by_side(LaneState& lane, std::vector<GroupProduct> products, bool bucket_k);
  [[nodiscard]] const void* rope_table(LaneState& lane, double theta, Index sequence, Index head_dim);

  int device_;
  std::string device_name_;
  int multiprocessors_;
  std::unique_ptr<GemmEngine> gemm_;
  std::array<LaneState, kLaneCount> lanes_;
  std::vector<cudaEvent_t> events_;
  std::mutex error_mutex_;
  std::optional<Error> first_error_;
};

}  // namespace moecast::cuda
