#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "base/units.h"
#include "models/gate.h"
#include "models/moe_model.h"
#include "models/step_plan.h"
#include "runtime/tensor.h"

namespace moecast {

/// Memory of one backend; freed with the handle. Move-only.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  [[nodiscard]] virtual void* data() const = 0;
  [[nodiscard]] virtual Bytes size() const = 0;
};

/// Sizes of one attention call. Tokens are batch * sequence, row-major by batch then position.
struct AttentionShape {
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // heads % kv_heads == 0
  std::int64_t head_dim = 0;
};

/// Random numbers of one gate call: a pure function of seed, token and expert, so they do not depend on how tokens are
/// divided among ranks and micro-batches.
struct GateDraws {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  std::uint64_t first_token = 0;  // number of token 0 among all tokens of the step
  bool explores = true;           // false (validation): NoisyTopK adds no noise, RandomSecond keeps every second choice
};

/// What a gate reads. T tokens, E router outputs (the zero experts last), k choices.
struct GateInput {
  Tensor logits;             // F32 [T, E]; Hash and Random: empty
  Tensor noise_logits = {};  // F32 [T, E]: x W_noise, NoisyTopK only
  Tensor bias = {};          // F32 [E] with GateRule::selection_bias
  Tensor ids = {};           // I32 [T]: words, Hash only
  Tensor taken = {};         // I32 [T, k]: experts that a token may not choose; empty: it may choose all
  std::int64_t zero_expert_count = 0;
  GateDraws draws = {};
};

/// What the gate leaves behind for encode, decode and its own backward. K = GateRule::choices: k, or E columns, one for
/// each expert, with ExpertChoice.
struct GateTensors {
  Tensor scores;        // F32 [T, E]: router probabilities before selection; sigmoids with SigmoidTopK
  Tensor expert;        // I32 [T, K]: chosen expert, best first
  Tensor weight;        // F32 [T, K]: combine weight
  Tensor row;           // I32 [T, K]: destination row in the send buffer (expert-major), -1: nothing travels
  Tensor count;         // I32 [E]: tokens routed to each expert before drops
  Tensor balance_loss;  // F32 [1]: E * sum_e f_e P_e over the T local tokens (GShard/Switch balance loss, first choice;
                        // SigmoidTopK: P_e of scores divided by their sum, DeepSeek-V3, arXiv 2412.19437, eq 19)
  Tensor losses = {};   // F32 [3]: RouterLosses in their order; empty: not wanted
  Tensor zero_weight = {};  // F32 [T]: sum of the weights of chosen zero experts; empty without
};

/// What each loss of a gate is multiplied by: its coefficient and the loss scale.
struct GateLossScales {
  double balance = 0;
  RouterLosses others = {};
};

/// Gradients around a gate.
struct GateGradients {
  Tensor dweight;      // in: F32 [T, K]
  Tensor dzero = {};   // in: F32 [T] at zero_weight; empty without
  Tensor dlogits;      // out: F32 [T, E]
  Tensor dnoise = {};  // out: F32 [T, E] at noise_logits
  Tensor load = {};    // out: F32 [E] += count; with selection_bias
};

struct AdamWStep {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double gradient_scale = 1;  // multiplies every gradient (clipping, averaging)
  std::int64_t step = 1;      // 1 for the first update (bias correction)
};

/// The kernels of one device. Every call takes the lane that it runs on: the CPU backend runs it at once on the calling
/// thread; an asynchronous backend queues it on that lane's stream. Tensors must be memory of this backend (host memory
/// for the CPU). Shapes are the caller's contract (ASSERT). Activations and compute weights have the compute dtype X
/// (F32, F64 on the CPU for gradient checks, BF16 on CUDA); gradients of weights, master weights, moments, losses, gate
/// weights and log-sum-exps are F32 (F64 when X is F64). `accumulate`: add to the output, else overwrite it.
/// One object serves one rank and is not shared between ranks; different lanes may call it from different threads.
class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string name() const = 0;         // "cpu", "cuda"
  [[nodiscard]] virtual std::string device_name() const = 0;  // "NVIDIA H100 80GB HBM3", the CPU's model name
  /// True if kernels are queued: then one thread issues the whole plan and lanes meet through events.
  [[nodiscard]] virtual bool asynchronous() const = 0;

  // Memory, copies, events -------------------------------------------------------------------------------------------
  [[nodiscard]] virtual Result<std::unique_ptr<DeviceMemory>> allocate(Bytes size) = 0;
  /// Host memory that copies reach at full rate (pinned on CUDA).
  [[nodiscard]] virtual Result<std::unique_ptr<DeviceMemory>> allocate_host(Bytes size) = 0;
  virtual void copy(Lane lane, Tensor destination, Tensor source) = 0;         // device to device, same dtype and size
  virtual void upload(Lane lane, Tensor destination, const void* source) = 0;  // host to device; keep until synchronize
  virtual void download(Lane lane, void* destination, Tensor source) = 0;  // device to host; valid after synchronize
  virtual void synchronize(Lane lane) = 0;
  /// Numbered events, 0 <= index < event_capacity as given to reserve_events. Recording again reuses the index.
  virtual void reserve_events(int capacity) = 0;
  virtual void record_event(Lane lane, int index) = 0;
  virtual void wait_event(Lane lane, int index) = 0;
  /// Time from event `from` to event `to`, both finished (call synchronize first).
  [[nodiscard]] virtual Duration elapsed(int from, int to) = 0;
  /// The first device error since the last call, if any (CUDA launch or execution errors; always ok on the CPU).
  [[nodiscard]] virtual Status check() = 0;

  // Elementwise ------------------------------------------------------------------------------------------------------
  virtual void fill(Lane lane, Tensor y, double value) = 0;
  virtual void add(Lane lane, Tensor y, Tensor x) = 0;   // y += x (same dtype and size)
  virtual void cast(Lane lane, Tensor y, Tensor x) = 0;  // y = x, other dtype
  /// y[T,d] += c[T] * x[T,d]; c is F32 [T] (F64 with F64), or empty for c = 1.
  virtual void add_scaled_rows(Lane lane, Tensor y, Tensor x, Tensor c) = 0;
  /// The backward of the above: dx[T,d] = c[T] * dy; dc[T] = <dy, x> (dc may be empty).
  virtual void scaled_rows_backward(Lane lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) = 0;
  /// In place on F32 [T]: c = sigmoid(c) (CG-1). Backward: dc = dc * c * (1 - c).
  virtual void sigmoid(Lane lane, Tensor c) = 0;
  virtual void sigmoid_backward(Lane lane, Tensor c, Tensor dc) = 0;
  /// In place on F32 [2,T]: softmax of each pair (CG-2). Backward: dc = c * (dc - <c, dc>), in place on dc.
  virtual void softmax_pairs(Lane lane, Tensor c) = 0;
  virtual void softmax_pairs_backward(Lane lane, Tensor c, Tensor dc) = 0;

  // Matrix products --------------------------------------------------------------------------------------------------
  /// y[M,N] = op(a) op(b) (+ y if accumulate); op transposes if asked. y may be F32 while a and b are BF16.
  virtual void gemm(Lane lane, bool transpose_a, bool transpose_b, Tensor a, Tensor b, Tensor y, bool accumulate) = 0;
  /// Rows of x are grouped: group g is rows [offset[g], offset[g+1]); it uses weight matrix w[g % W], W = w.shape[0].
  /// y[r,N] = x[r,K] w[K,N], or with transpose_w, w is [W,N,K] seen the other way: y[r,N] = x[r,K] w[N,K]^T.
  virtual void grouped_gemm(Lane lane, Tensor x, Tensor w, bool transpose_w, std::span<const std::int64_t> offsets,
                            Tensor y) = 0;
  /// dw[g % W] += x[rows of g]^T dy[rows of g]; dw is [W,K,N], always accumulates.
  virtual void grouped_gemm_weight(Lane lane, Tensor x, Tensor dy, std::span<const std::int64_t> offsets,
                                   Tensor dw) = 0;

  // Bias and activation; b is [W,N], groups as above --------------------------------------------------------------
  virtual void bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) = 0;
  virtual void bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets,
                             Tensor db) = 0;  // accumulates
  /// pre[R,F] holds the pre-activation (bias already added). GELU is the exact erf form: out[R,F] = gelu(pre). SwiGLU:
  /// pre[R,2F] = (gate | up), out[R,F] = silu(gate) * up; GeGLU the same with gelu(gate). ReLU: out = max(pre, 0).
  virtual void activation(Lane lane, Activation kind, Tensor pre, Tensor out) = 0;
  virtual void activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) = 0;

  // Norm: LayerNorm has gain and bias, RMSNorm only gain (bias, mean, dbias empty) --------------------------------
  virtual void norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
                    Tensor rstd) = 0;
  /// dx (+)= gradient; dgain and dbias (F32) always accumulate.
  virtual void norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd,
                             Tensor dx, bool accumulate, Tensor dgain, Tensor dbias) = 0;

  // Attention: causal; qkv is [T, (heads + 2 kv_heads) * head_dim], columns q heads | k heads | v heads ------------
  /// Scores are scaled by 1 / sqrt(head_dim). log_sum_exp is [batch, heads, sequence], natural logarithm.
  virtual void attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) = 0;
  virtual void attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                                  Tensor dout, Tensor dqkv) = 0;
  /// Rotates q and k in place, pairs (i, i + head_dim/2) as in Llama; inverse undoes it (the backward).
  virtual void rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) = 0;

  // Embedding and loss -----------------------------------------------------------------------------------------------
  /// out[T,d] = tokens[id] + positions[t % sequence]; positions may be empty. ids is I32 [T].
  virtual void embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) = 0;
  virtual void embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                                  Tensor dpositions) = 0;  // accumulates
  /// loss F32 [T] = -log softmax(logits)[target]; then logits are overwritten by (softmax - onehot) * scale.
  virtual void cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) = 0;

  // Gate and permutation ---------------------------------------------------------------------------------------------
  /// With a capacity C the destination row of slot s of expert e is e * C + s and slots beyond C are dropped (token
  /// order, all first choices before second choices); dropless rows are expert-major without gaps. Ties in the scores
  /// go to the lower expert. ExpertChoice: the C tokens of an expert are its best, slots in falling order of score.
  virtual void gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
                    const GateTensors& out) = 0;
  /// Gradients of sum(dweight weight) + sum(dzero zero_weight) + the losses times their scales; which experts were
  /// chosen does not change. Not for Hash and Random.
  virtual void gate_backward(Lane lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                             const GateLossScales& scales, const GateGradients& gradients) = 0;
  /// out[R,d]: row[t,j] of out = x[t]; rows without a token become zero.
  virtual void permute(Lane lane, Tensor x, Tensor row, Tensor out) = 0;
  virtual void permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) = 0;
  /// out[T,d] (+)= sum_j weight[t,j] * rows[row[t,j]] (dropped choices contribute nothing).
  virtual void unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) = 0;
  /// drows[R,d] (rows without a token become zero), dweight[T,k] = <dout[t], rows[row[t,j]]> (0 if dropped).
  virtual void unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                                  Tensor dweight) = 0;

  // Optimizer --------------------------------------------------------------------------------------------------------
  /// AdamW (Loshchilov & Hutter 2019, algorithm 2) on F32 master, gradient and moments; then weight = master in X.
  /// weight may be the same memory as master (F32 training).
  virtual void adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
                     Tensor second_moment, Tensor weight) = 0;
  /// bias += rate where load is below `mean`, -= rate where it is above; then weight = bias in X (it may be the same
  /// memory). Flat vectors of one size (arXiv 2408.15664, algorithm 1).
  virtual void follow_load(Lane lane, double rate, double mean, Tensor load, Tensor bias, Tensor weight) = 0;
  /// out F64 [1] (+)= sum of squares of x.
  virtual void squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) = 0;
};

}  // namespace moecast
