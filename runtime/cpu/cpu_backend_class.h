#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/cpu/instructions.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/scratch.h"

namespace moecast::cpu {

/// Cosines and sines of the rotary embedding, kept from call to call. [sequence, head_dim / 2].
template <typename T>
struct RopeTable {
  double theta = 0;
  std::int64_t sequence = 0;
  std::int64_t head_dim = 0;
  std::vector<T> cosine;
  std::vector<T> sine;
};

/// Checks shapes and types, then calls the kernel of the tensors' scalar type. Methods are in the file of their family.
class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(CpuInstructions instructions);

  // cpu_backend.cc
  std::string name() const override { return "cpu"; }
  std::string device_name() const override;
  bool asynchronous() const override { return false; }
  Status check() override { return {}; }

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

  // gemm.cc
  void gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) override;
  void grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                    Tensor y) override;
  void grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets, Tensor dw) override;

  // activation.cc
  void bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) override;
  void bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) override;
  void activation(Lane lane, Activation kind, Tensor pre, Tensor out) override;
  void activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) override;

  // norm.cc
  void norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
            Tensor rstd) override;
  void norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd, Tensor dx,
                     bool accumulate, Tensor dgain, Tensor dbias) override;

  // attention.cc
  void attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) override;
  void attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                          Tensor dout, Tensor dqkv) override;
  void rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) override;

  // embedding.cc
  void embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) override;
  void embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                          Tensor dpositions) override;
  void cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) override;

  // gate.cc
  void gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
            const GateTensors& out) override;
  void gate_backward(Lane lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                     const GateLossScales& scales, const GateGradients& gradients) override;

  // permute.cc
  void permute(Lane lane, Tensor x, Tensor row, Tensor out) override;
  void permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) override;
  void unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) override;
  void unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                          Tensor dweight) override;

  // optimizer.cc
  void adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
             Tensor second_moment, Tensor weight) override;
  void follow_load(Lane lane, double rate, double mean, Tensor load, Tensor bias, Tensor weight) override;
  void squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) override;

 private:
  /// What a lane keeps between calls; no other lane touches it.
  struct LaneState {
    Scratch scratch;
    RopeTable<float> rope_f32;
    RopeTable<double> rope_f64;
  };

  [[nodiscard]] Scratch& scratch(Lane lane) { return lanes_[static_cast<std::size_t>(lane)].scratch; }
  template <typename T>
  [[nodiscard]] const RopeTable<T>& rope_table(Lane lane, const AttentionShape& shape, double theta);

  /// body(kernels) with the table of the scalar type: `[&]<typename T>(const Kernels<T>& kernels) {...}`.
  template <typename Body>
  void with_scalar(DType dtype, const Body& body) const {
    ASSERT(dtype == DType::F32 || dtype == DType::F64, "the CPU computes in F32 or F64");
    dtype == DType::F32 ? body(kernels_f32_) : body(kernels_f64_);
  }

  CpuInstructions instructions_;
  Kernels<float> kernels_f32_;
  Kernels<double> kernels_f64_;
  std::array<LaneState, kLaneCount> lanes_;
  /// Nanoseconds on the steady clock. Atomic: one lane records what another reads.
  std::unique_ptr<std::atomic<std::int64_t>[]> events_;
  int event_capacity_ = 0;
};

}  // namespace moecast::cpu
