#pragma once

#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "runtime/backend.h"

namespace moecast::testing {

/// What one kernel call amounts to, as text: kind and sizes, without bytes. Calls and Operator::work are compared so.
[[nodiscard]] std::string describe(const Work& work);

/// Passes every call on to another backend and writes down the kernels of the compute lane.
class RecordingBackend final : public Backend {
 public:
  explicit RecordingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::vector<std::string> kernels;  // of the compute lane since it was last cleared; copies and events are none

  std::string name() const override { return inner_->name(); }
  std::string device_name() const override { return inner_->device_name(); }
  bool asynchronous() const override { return inner_->asynchronous(); }
  Result<std::unique_ptr<DeviceMemory>> allocate(Bytes size) override { return inner_->allocate(size); }
  Result<std::unique_ptr<DeviceMemory>> allocate_host(Bytes size) override { return inner_->allocate_host(size); }
  void upload(Lane lane, Tensor y, const void* x) override { inner_->upload(lane, y, x); }
  void download(Lane lane, void* y, Tensor x) override { inner_->download(lane, y, x); }
  void synchronize(Lane lane) override { inner_->synchronize(lane); }
  void reserve_events(int capacity) override { inner_->reserve_events(capacity); }
  void record_event(Lane lane, int index) override { inner_->record_event(lane, index); }
  void wait_event(Lane lane, int index) override { inner_->wait_event(lane, index); }
  Duration elapsed(int from, int to) override { return inner_->elapsed(from, to); }
  Status check() override { return inner_->check(); }

  void copy(Lane lane, Tensor y, Tensor x) override {
    memory(lane, MemoryKernel::Copy, y);
    inner_->copy(lane, y, x);
  }
  void fill(Lane lane, Tensor y, double value) override {
    flat(lane, MemoryKernel::Fill, y);
    inner_->fill(lane, y, value);
  }
  void add(Lane lane, Tensor y, Tensor x) override {
    memory(lane, MemoryKernel::Add, y);
    inner_->add(lane, y, x);
  }
  void cast(Lane lane, Tensor y, Tensor x) override {
    memory(lane, MemoryKernel::Cast, y);
    inner_->cast(lane, y, x);
  }
  void add_scaled_rows(Lane lane, Tensor y, Tensor x, Tensor c) override {
    memory(lane, MemoryKernel::ScaleRows, y);
    inner_->add_scaled_rows(lane, y, x, c);
  }
  void scaled_rows_backward(Lane lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) override {
    memory(lane, MemoryKernel::ScaleRowsBackward, dy);
    inner_->scaled_rows_backward(lane, dy, x, c, dx, dc);
  }
  void sigmoid(Lane lane, Tensor c) override {
    flat(lane, MemoryKernel::Sigmoid, c);
    inner_->sigmoid(lane, c);
  }
  void sigmoid_backward(Lane lane, Tensor c, Tensor dc) override {
    flat(lane, MemoryKernel::SigmoidBackward, c);
    inner_->sigmoid_backward(lane, c, dc);
  }
  void softmax_pairs(Lane lane, Tensor c) override {
    flat(lane, MemoryKernel::Sigmoid, c);
    inner_->softmax_pairs(lane, c);
  }
  void softmax_pairs_backward(Lane lane, Tensor c, Tensor dc) override {
    flat(lane, MemoryKernel::SigmoidBackward, c);
    inner_->softmax_pairs_backward(lane, c, dc);
  }
  void gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) override {
    note(lane, GemmWork{y.rows(), y.columns(), transpose_a ? a.rows() : a.columns()});
    inner_->gemm(lane, transpose_a, transpose_b, a, b, y, accumulate);
  }
  void grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                    Tensor y) override {
    note(lane, GroupedGemmWork{groups(offsets), mean_rows(offsets), y.columns(), x.columns()});
    inner_->grouped_gemm(lane, x, w, transpose_w, offsets, y);
  }
  void grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets, Tensor dw) override {
    note(lane, GroupedGemmWork{groups(offsets), static_cast<double>(dw.shape[1]), dw.shape[2],
                               static_cast<std::int64_t>(mean_rows(offsets))});
    inner_->grouped_gemm_weight(lane, x, dy, offsets, dw);
  }
  void bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) override {
    memory(lane, MemoryKernel::Bias, x);
    inner_->bias_add(lane, x, b, offsets);
  }
  void bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) override {
    memory(lane, MemoryKernel::BiasGradient, dx);
    inner_->bias_gradient(lane, dx, offsets, db);
  }
  void activation(Lane lane, Activation kind, Tensor pre, Tensor out) override {
    memory(lane, MemoryKernel::Activation, out);
    inner_->activation(lane, kind, pre, out);
  }
  void activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) override {
    memory(lane, MemoryKernel::ActivationBackward, dout);
    inner_->activation_backward(lane, kind, pre, dout, dpre);
  }
  void norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
            Tensor rstd) override {
    memory(lane, MemoryKernel::Norm, x);
    inner_->norm(lane, kind, x, gain, bias, epsilon, y, mean, rstd);
  }
  void norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd, Tensor dx,
                     bool accumulate, Tensor dgain, Tensor dbias) override {
    memory(lane, MemoryKernel::NormBackward, x);
    inner_->norm_backward(lane, kind, dy, x, gain, mean, rstd, dx, accumulate, dgain, dbias);
  }
  void attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) override {
    note(lane, core(shape, false));
    inner_->attention(lane, shape, qkv, out, log_sum_exp);
  }
  void attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                          Tensor dout, Tensor dqkv) override {
    note(lane, core(shape, true));
    inner_->attention_backward(lane, shape, qkv, out, log_sum_exp, dout, dqkv);
  }
  void rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) override {
    const std::int64_t rotated = (shape.heads + shape.kv_heads) * shape.head_dim;
    note(lane, MemoryWork{inverse ? MemoryKernel::RopeBackward : MemoryKernel::Rope, qkv.rows(), rotated});
    inner_->rope(lane, shape, theta, qkv, inverse);
  }
  void embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) override {
    memory(lane, MemoryKernel::Embedding, out);
    inner_->embedding(lane, ids, tokens, positions, sequence, out);
  }
  void embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                          Tensor dpositions) override {
    memory(lane, MemoryKernel::EmbeddingBackward, dout);
    inner_->embedding_backward(lane, ids, dout, sequence, dtokens, dpositions);
  }
  void cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) override {
    memory(lane, MemoryKernel::CrossEntropy, logits);
    inner_->cross_entropy(lane, logits, targets, scale, loss);
  }
  void gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
            const GateTensors& out) override {
    memory(lane, MemoryKernel::Gate, out.scores);
    inner_->gate(lane, rule, capacity, input, out);
  }
  void gate_backward(Lane lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                     const GateLossScales& scales, const GateGradients& gradients) override {
    memory(lane, MemoryKernel::GateBackward, saved.scores);
    inner_->gate_backward(lane, rule, input, saved, scales, gradients);
  }
  void permute(Lane lane, Tensor x, Tensor row, Tensor out) override {
    memory(lane, MemoryKernel::Permute, out);
    inner_->permute(lane, x, row, out);
  }
  void permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) override {
    memory(lane, MemoryKernel::PermuteBackward, dx);
    inner_->permute_backward(lane, dout, row, dx, accumulate);
  }
  void unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) override {
    memory(lane, MemoryKernel::Unpermute, out);
    inner_->unpermute(lane, rows, row, weight, out, accumulate);
  }
  void unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                          Tensor dweight) override {
    memory(lane, MemoryKernel::UnpermuteBackward, drows);
    inner_->unpermute_backward(lane, dout, rows, row, weight, drows, dweight);
  }
  void adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
             Tensor second_moment, Tensor weight) override {
    flat(lane, MemoryKernel::AdamW, master);
    inner_->adamw(lane, step, master, gradient, first_moment, second_moment, weight);
  }
  void follow_load(Lane lane, double rate, double mean, Tensor load, Tensor bias, Tensor weight) override {
    flat(lane, MemoryKernel::Add, bias);
    inner_->follow_load(lane, rate, mean, load, bias, weight);
  }
  void squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) override {
    flat(lane, MemoryKernel::SquaredNorm, x);
    inner_->squared_norm(lane, x, out, accumulate);
  }

 private:
  static std::int64_t groups(std::span<const std::int64_t> offsets) {
    return static_cast<std::int64_t>(offsets.size()) - 1;
  }
  static double mean_rows(std::span<const std::int64_t> offsets) {
    return static_cast<double>(offsets.back() - offsets.front()) / static_cast<double>(groups(offsets));
  }
  static AttentionWork core(const AttentionShape& shape, bool backward) {
    return {shape.batch, shape.sequence, shape.heads, shape.kv_heads, shape.head_dim, backward};
  }
  void note(Lane lane, const Work& work) {
    if (lane == Lane::Compute) kernels.push_back(describe(work));
  }
  void memory(Lane lane, MemoryKernel kernel, const Tensor& operand) {
    note(lane, MemoryWork{kernel, operand.rows(), operand.columns()});
  }
  void flat(Lane lane, MemoryKernel kernel, const Tensor& operand) {
    note(lane, MemoryWork{kernel, 1, operand.element_count()});
  }

  std::unique_ptr<Backend> inner_;
};

}  // namespace moecast::testing
