#include "runtime/trainer/activations.h"

#include <algorithm>

namespace moecast {
namespace {

/// The largest sizes over all blocks: what shared temporaries must hold.
struct Widest {
  std::int64_t ffn = 0;           // dense FFN or shared expert
  std::int64_t experts = 0;       // A
  std::int64_t choices = 0;       // K
  std::int64_t send = 0;          // S
  std::int64_t receive = 0;       // R
  std::int64_t expert_cells = 0;  // R f
  std::int64_t coefficients = 0;  // of a coefficient gate
  std::int64_t routings = 0;
  bool noise = false, zero_experts = false;
};

std::int64_t coefficients_of(const MoeFfn& moe) {
  return moe.shared_expert_width > 0 ? coefficient_count(moe.coefficient_gate) : 0;
}

Widest widest(const ActivationSizes& sizes) {
  Widest most;
  for (const Block& block : sizes.model.blocks) {
    if (!block.moe) {
      most.ffn = std::max(most.ffn, block.dense_width);
      continue;
    }
    const MoeFfn& moe = *block.moe;
    const std::int64_t receive = receive_rows(moe, sizes.batch, sizes.layout.expert);
    most.ffn = std::max(most.ffn, moe.shared_expert_width);
    most.experts = std::max(most.experts, moe.choice_count());
    most.choices = std::max(most.choices, moe.choices());
    most.send = std::max(most.send, send_rows(moe, sizes.batch));
    most.receive = std::max(most.receive, receive);
    most.expert_cells = std::max(most.expert_cells, receive * moe.expert_width);
    most.coefficients = std::max(most.coefficients, coefficients_of(moe));
    most.routings = std::max(most.routings, moe.routing_count());
    most.noise |= moe.gate.router == RouterKind::NoisyTopK;
    most.zero_experts |= moe.zero_expert_count > 0;
  }
  return most;
}

/// Takes the states of one model from an arena.
class Carver {
 public:
  Carver(const ActivationSizes& sizes, Arena& arena)
      : sizes_(sizes), model_(sizes.model), arena_(arena), tokens_(sizes.batch.tokens()), d_(sizes.model.d_model) {}

  [[nodiscard]] Tensor x(std::initializer_list<std::int64_t> shape) { return arena_.take(sizes_.compute, shape); }
  [[nodiscard]] Tensor f(std::initializer_list<std::int64_t> shape) {
    return arena_.take(sizes_.compute == DType::F64 ? DType::F64 : DType::F32, shape);
  }
  [[nodiscard]] Tensor i(std::initializer_list<std::int64_t> shape) { return arena_.take(DType::I32, shape); }

  [[nodiscard]] NormState norm() {
    NormState state;
    state.y = x({tokens_, d_});
    if (model_.norm == NormKind::LayerNorm) state.mean = f({tokens_});
    state.rstd = f({tokens_});
    return state;
  }
  [[nodiscard]] AttentionState attention() {
    const Attention& a = model_.attention;
    AttentionState state;
    state.norm = norm();
    state.qkv = x({tokens_, a.qkv_width()});
    state.out = x({tokens_, a.query_width()});
    state.log_sum_exp = f({sizes_.batch.micro_batch, a.heads, sizes_.batch.sequence});
    return state;
  }
  [[nodiscard]] FfnState ffn(std::int64_t width) {
    FfnState state;
    state.norm = norm();
    state.pre = x({tokens_, model_.ffn_input_columns(width)});
    state.active = x({tokens_, width});
    return state;
  }
  [[nodiscard]] RoutedState routed(const MoeFfn& moe) {
    const std::int64_t experts = moe.choice_count();
    const std::int64_t choices = moe.choices();
    const std::int64_t micro_batches = sizes_.batch.micro_batch_count;
    const std::int64_t degree = sizes_.layout.expert;
    const std::int64_t receive = receive_rows(moe, sizes_.batch, degree);
    RoutedState state;
    state.norm = norm();
    if (moe.gate.has_weights()) state.logits = f({tokens_, experts});
    if (moe.gate.router == RouterKind::NoisyTopK) state.noise_logits = f({tokens_, experts});
    state.scores = f({tokens_, experts});
    state.weight = f({tokens_, choices});
    state.expert = i({tokens_, choices});
    state.row = i({tokens_, choices});
    state.count = i({micro_batches, experts});
    state.balance_loss = f({micro_batches});
    if (moe.loss_coefficients.any()) state.losses = f({micro_batches, 3});
    if (moe.zero_expert_count > 0) state.zero_weight = f({tokens_});
    if (!moe.capacity_factor) state.received_count = i({degree, moe.expert_count / degree});
    state.received = x({receive, d_});
    state.pre = x({receive, model_.ffn_input_columns(moe.expert_width)});
    state.active = x({receive, moe.expert_width});
    state.rows = x({send_rows(moe, sizes_.batch), d_});
    return state;
  }
  [[nodiscard]] BlockState block(const Block& block) {
    BlockState state;
    state.x = x({tokens_, d_});
    state.h = x({tokens_, d_});
    state.attention = attention();
    if (!block.moe) {
      state.ffn = ffn(block.dense_width);
      return state;
    }
    state.routed = routed(*block.moe);
    if (block.moe->double_gate) state.second = routed(*block.moe);
    if (block.moe->shared_expert_width == 0) return state;
    state.ffn = ffn(block.moe->shared_expert_width);
    state.routed.shared = x({tokens_, d_});
    const std::int64_t coefficients = coefficients_of(*block.moe);
    if (coefficients == 1) state.routed.coefficient = f({tokens_, 1});
    if (coefficients == 2) {
      state.routed.coefficient = f({2, tokens_});
      state.routed.mixed = x({tokens_, d_});
    }
    return state;
  }
  [[nodiscard]] HeadState head() {
    HeadState state;
    state.norm = norm();
    state.logits = x({tokens_, model_.vocabulary});
    state.loss = f({sizes_.batch.micro_batch_count, tokens_});
    return state;
  }
  [[nodiscard]] Temporaries temporaries() {
    const Widest most = widest(sizes_);
    Temporaries state;
    state.dattention = x({tokens_, model_.attention.query_width()});
    state.dqkv = x({tokens_, model_.attention.qkv_width()});
    state.dnorm = x({tokens_, d_});
    state.dactive = x({tokens_, most.ffn});
    state.dpre = x({tokens_, model_.ffn_input_columns(most.ffn)});
    state.g = x({tokens_, d_});
    if (most.experts > 0) routed_temporaries(most, state);
    return state;
  }

 private:
  void routed_temporaries(const Widest& most, Temporaries& state) {
    state.expert_dactive = x({most.expert_cells});
    state.gate_dlogits = f({tokens_, most.experts});
    if (most.noise) state.gate_dnoise = f({tokens_, most.experts});
    if (sizes_.compute == DType::BF16) state.compute_dlogits = x({tokens_, most.experts});
    if (most.coefficients > 0) {
      state.dshared = x({tokens_, d_});
      state.dcoefficient = f({tokens_ * most.coefficients});
    }
    if (most.coefficients == 2) state.dmixed = x({tokens_, d_});
    if (most.zero_experts) state.dzero = f({tokens_});
    for (std::int64_t routing = 0; routing < most.routings; ++routing) {
      RoutedTemporaries& each = state.routed[static_cast<std::size_t>(routing)];
      each.send = x({most.send, d_});
      each.expert_out = x({most.receive, d_});
      each.drows = x({most.send, d_});
      each.dweight = f({tokens_, most.choices});
      each.dexpert_out = x({most.receive, d_});
      each.expert_dpre = x({model_.ffn_input_columns(most.expert_cells)});
      each.dreceived = x({most.receive, d_});
      each.dsend = x({most.send, d_});
      each.drouted = x({tokens_, d_});
    }
  }

  const ActivationSizes& sizes_;
  const MoeModel& model_;
  Arena& arena_;
  std::int64_t tokens_;
  std::int64_t d_;
};

}  // namespace

std::int64_t send_rows(const MoeFfn& moe, const Batch& batch) {
  const std::optional<std::int64_t> capacity = moe.capacity(batch.tokens());
  return capacity ? moe.expert_count * *capacity : batch.tokens() * moe.gate.top_k;
}

std::int64_t receive_rows(const MoeFfn& moe, const Batch& batch, std::int64_t expert_degree) {
  return moe.capacity_factor ? send_rows(moe, batch) : expert_degree * send_rows(moe, batch);
}

Activations Activations::carve(const ActivationSizes& sizes, Arena& arena) {
  Carver carver(sizes, arena);
  Activations states;
  states.ids = carver.i({sizes.batch.micro_batch_count, sizes.batch.tokens()});
  states.targets = carver.i({sizes.batch.micro_batch_count, sizes.batch.tokens()});
  for (const Block& block : sizes.model.blocks) states.blocks.push_back(carver.block(block));
  states.x_last = carver.x({sizes.batch.tokens(), sizes.model.d_model});
  states.head = carver.head();
  states.squared_norms = arena.take(DType::F64, {2});
  states.temporary = carver.temporaries();
  return states;
}

}  // namespace moecast
