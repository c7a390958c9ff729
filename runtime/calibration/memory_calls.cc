#include "runtime/calibration/memory_calls.h"

#include <algorithm>

namespace moecast {

MemoryCalls::Call MemoryCalls::call(const MemoryWork& work) {
  switch (work.kernel) {
    case MemoryKernel::Norm:
    case MemoryKernel::NormBackward:
      return norm_call(work);
    case MemoryKernel::Activation:
    case MemoryKernel::ActivationBackward:
      return activation_call(work);
    case MemoryKernel::Bias:
    case MemoryKernel::BiasGradient:
      return bias_call(work);
    case MemoryKernel::Embedding:
    case MemoryKernel::EmbeddingBackward:
    case MemoryKernel::CrossEntropy:
      return vocabulary_call(work);
    case MemoryKernel::Gate:
    case MemoryKernel::GateBackward:
      return gate_call(work);
    case MemoryKernel::Permute:
    case MemoryKernel::PermuteBackward:
    case MemoryKernel::Unpermute:
    case MemoryKernel::UnpermuteBackward:
      return permute_call(work);
    case MemoryKernel::ScaleRows:
    case MemoryKernel::ScaleRowsBackward:
      return scaled_rows_call(work);
    case MemoryKernel::Rope:
    case MemoryKernel::RopeBackward:
      return rope_call(work);
    case MemoryKernel::AdamW:
    case MemoryKernel::SquaredNorm:
      return optimizer_call(work);
    case MemoryKernel::Add:
    case MemoryKernel::Copy:
    case MemoryKernel::Cast:
    case MemoryKernel::Fill:
    case MemoryKernel::Sigmoid:
    case MemoryKernel::SigmoidBackward:
      return elementwise_call(work);
  }
  ASSERT(false, "memory kernel {}", static_cast<int>(work.kernel));
  return {};
}

MemoryCalls::Call MemoryCalls::norm_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::int64_t rows = work.rows, columns = work.columns;
  const Tensor x = input({rows, columns}), gain = input({columns}), bias = input({columns});
  if (work.kernel == MemoryKernel::Norm) {
    const Tensor y = output({rows, columns}), mean = state_output({rows}), rstd = state_output({rows});
    return [=, &b] { b.norm(lane, NormKind::LayerNorm, x, gain, bias, 1e-5, y, mean, rstd); };
  }
  const bool accumulate = charged_rows(work) > 3 * rows;
  const Tensor dy = input({rows, columns}), mean = state_input({rows}), rstd = state_input({rows});
  const Tensor dx = output({rows, columns}), dgain = state_output({columns}), dbias = state_output({columns});
  return [=, &b] { b.norm_backward(lane, NormKind::LayerNorm, dy, x, gain, mean, rstd, dx, accumulate, dgain, dbias); };
}

MemoryCalls::Call MemoryCalls::activation_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const bool backward = work.kernel == MemoryKernel::ActivationBackward;
  const std::int64_t rows = work.rows, width = work.columns;
  const std::int64_t gelu_rows = (backward ? 3 : 2) * rows;
  const Activation kind = charged_rows(work) > gelu_rows ? Activation::SwiGlu : Activation::Gelu;
  const std::int64_t inner = kind == Activation::SwiGlu ? 2 * width : width;
  const Tensor pre = input({rows, inner});
  if (!backward) {
    const Tensor out = output({rows, width});
    return [=, &b] { b.activation(lane, kind, pre, out); };
  }
  const Tensor dout = input({rows, width}), dpre = output({rows, inner});
  return [=, &b] { b.activation_backward(lane, kind, pre, dout, dpre); };
}

MemoryCalls::Call MemoryCalls::bias_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::vector<std::int64_t> offsets = {0, work.rows};
  if (work.kernel == MemoryKernel::Bias) {
    const Tensor x = output({work.rows, work.columns}), bias = input({1, work.columns});
    return [=, &b] { b.bias_add(lane, x, bias, offsets); };
  }
  const Tensor dx = input({work.rows, work.columns}), db = state_output({1, work.columns});
  return [=, &b] { b.bias_gradient(lane, dx, offsets, db); };
}

MemoryCalls::Call MemoryCalls::vocabulary_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::int64_t rows = work.rows, columns = work.columns;
  if (work.kernel == MemoryKernel::CrossEntropy) {
    const Tensor logits = operands_.fresh_output(operands_.compute(), {rows, columns});
    const Tensor targets = operands_.indices({rows}, columns), loss = state_output({rows});
    return [=, &b] { b.cross_entropy(lane, logits, targets, 1.0, loss); };
  }
  const std::int64_t vocabulary = table_rows(columns);
  const Tensor ids = operands_.indices({rows}, vocabulary);
  if (work.kernel == MemoryKernel::Embedding) {
    const std::int64_t positions = charged_rows(work) - 2 * rows;
    if (table_.empty()) table_ = input({vocabulary, columns});
    const Tensor tokens = table_, out = output({rows, columns});
    const Tensor position = positions > 0 ? input({positions, columns}) : Tensor();
    const std::int64_t sequence = positions > 0 ? positions : rows;
    return [=, &b] { b.embedding(lane, ids, tokens, position, sequence, out); };
  }
  // T d of X, and 2 (T + positions) d of the state.
  const std::int64_t state_bytes = work.bytes.count() - rows * columns * element();
  const std::int64_t positions = state_bytes / (2 * columns * state_element()) - rows;
  if (table_.empty()) table_ = state_output({vocabulary, columns});
  const Tensor dout = input({rows, columns}), dtokens = table_;
  const Tensor dpositions = positions > 0 ? state_output({positions, columns}) : Tensor();
  const std::int64_t sequence = positions > 0 ? positions : rows;
  return [=, &b] { b.embedding_backward(lane, ids, dout, sequence, dtokens, dpositions); };
}

MemoryCalls::Call MemoryCalls::gate_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::int64_t tokens = work.rows, experts = work.columns;
  // 2 T E + 3 T k elements of the state.
  const std::int64_t triples = work.bytes.count() / (state_element() * tokens) - 2 * experts;
  const std::int64_t choices = std::clamp<std::int64_t>(triples / 3, 1, experts);
  const std::int64_t capacity = (tokens * choices * 5 / 4 + experts - 1) / experts;
  const GateRule rule{RouterKind::SoftmaxTopK, choices, true};
  const Tensor logits = state_input({tokens, experts});
  const GateTensors out{state_output({tokens, experts}),         operands_.output(DType::I32, {tokens, choices}),
                        state_output({tokens, choices}),         operands_.output(DType::I32, {tokens, choices}),
                        operands_.output(DType::I32, {experts}), state_output({1})};
  const Call forward = [=, &b] { b.gate(lane, rule, capacity, {logits}, out); };
  if (work.kernel == MemoryKernel::Gate) return forward;
  if (operands_.status().ok()) forward();  // the backward reads what the forward has chosen
  const Tensor dweight = state_input({tokens, choices}), dlogits = state_output({tokens, experts});
  return [=, &b] { b.gate_backward(lane, rule, {logits}, out, {0.01}, {dweight, {}, dlogits}); };
}

MemoryCalls::Call MemoryCalls::permute_call(const MemoryWork& work) {
  const std::int64_t moved = charged_rows(work);
  switch (work.kernel) {
    case MemoryKernel::Permute:  // chosen + rows of the buffer
      return permute_call(work.kernel, moved - work.rows, 1, work.rows, work.columns);
    case MemoryKernel::PermuteBackward:  // chosen + T
      return permute_call(work.kernel, work.rows, moved / work.rows - 1, 0, work.columns);
    case MemoryKernel::Unpermute:  // chosen + 2 T
      return permute_call(work.kernel, work.rows, moved / work.rows - 2, 0, work.columns);
    default: {  // T + chosen + rows of the buffer: T is not known, so one choice each
      const std::int64_t tokens = (moved - work.rows) / 2;
      return permute_call(work.kernel, tokens, 1, work.rows, work.columns);
    }
  }
}

/// `buffer_rows` 0: as many rows as choices.
MemoryCalls::Call MemoryCalls::permute_call(MemoryKernel kernel, std::int64_t tokens, std::int64_t choices,
                                            std::int64_t buffer_rows, std::int64_t columns) {
  Backend& b = backend_;
  const Lane lane = lane_;
  tokens = std::max<std::int64_t>(1, tokens);
  choices = std::max<std::int64_t>(1, choices);
  const std::int64_t rows = std::max(buffer_rows, tokens * choices);
  const Tensor row = operands_.scattered_rows(tokens, choices, rows);
  const Tensor weight = state_input({tokens, choices});
  if (kernel == MemoryKernel::Permute) {
    const Tensor x = input({tokens, columns}), out = output({rows, columns});
    return [=, &b] { b.permute(lane, x, row, out); };
  }
  const Tensor buffer = input({rows, columns});
  if (kernel == MemoryKernel::PermuteBackward) {
    const Tensor dx = output({tokens, columns});
    return [=, &b] { b.permute_backward(lane, buffer, row, dx, false); };
  }
  if (kernel == MemoryKernel::Unpermute) {
    const Tensor out = output({tokens, columns});
    return [=, &b] { b.unpermute(lane, buffer, row, weight, out, true); };
  }
  const Tensor dout = input({tokens, columns}), drows = output({rows, columns});
  const Tensor dweight = state_output({tokens, choices});
  return [=, &b] { b.unpermute_backward(lane, dout, buffer, row, weight, drows, dweight); };
}

MemoryCalls::Call MemoryCalls::scaled_rows_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const Tensor x = input({work.rows, work.columns}), c = state_input({work.rows});
  if (work.kernel == MemoryKernel::ScaleRows) {
    const Tensor y = output({work.rows, work.columns});
    return [=, &b] { b.add_scaled_rows(lane, y, x, c); };
  }
  const Tensor dy = input({work.rows, work.columns}), dx = output({work.rows, work.columns});
  const Tensor dc = state_output({work.rows});
  return [=, &b] { b.scaled_rows_backward(lane, dy, x, c, dx, dc); };
}

/// The rotated columns are those of q and k; v is a third head of the same size beside each pair.
MemoryCalls::Call MemoryCalls::rope_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const bool inverse = work.kernel == MemoryKernel::RopeBackward;
  const std::int64_t head_dim = work.columns % 128 == 0 ? 64 : work.columns / 4 * 2;
  const std::int64_t heads = work.columns / head_dim / 2;
  const std::int64_t sequence = std::min<std::int64_t>(work.rows, 128);
  const AttentionShape shape{work.rows / sequence, sequence, heads, heads, head_dim};
  const Tensor qkv = operands_.fresh_output(operands_.compute(), {shape.batch * sequence, 3 * heads * head_dim});
  return [=, &b] { b.rope(lane, shape, 10000.0, qkv, inverse); };
}

MemoryCalls::Call MemoryCalls::optimizer_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::int64_t count = work.columns;
  const Tensor gradient = state_input({count});
  if (work.kernel == MemoryKernel::SquaredNorm) {
    const Tensor out = operands_.output(DType::F64, {1});
    return [=, &b] { b.squared_norm(lane, gradient, out, false); };
  }
  AdamWStep step;
  step.learning_rate = 1e-4;
  step.weight_decay = 0.1;
  step.step = 10;
  const Tensor master = operands_.fresh_output(operands_.state(), {count});
  const Tensor first = operands_.fresh_output(operands_.state(), {count});
  const Tensor second = state_output({count});
  if (operands_.status().ok()) b.fill(lane, second, 0.5);  // a mean of squares is never negative
  const bool own_weight = operands_.compute() != operands_.state();
  const Tensor weight = own_weight ? output({count}) : master;
  return [=, &b] { b.adamw(lane, step, master, gradient, first, second, weight); };
}

MemoryCalls::Call MemoryCalls::elementwise_call(const MemoryWork& work) {
  Backend& b = backend_;
  const Lane lane = lane_;
  const std::int64_t rows = work.rows, columns = work.columns;
  switch (work.kernel) {
    case MemoryKernel::Add: {
      const Tensor y = output({rows, columns}), x = input({rows, columns});
      return [=, &b] { b.add(lane, y, x); };
    }
    case MemoryKernel::Copy: {
      const Tensor y = output({rows, columns}), x = input({rows, columns});
      return [=, &b] { b.copy(lane, y, x); };
    }
    case MemoryKernel::Cast: {
      const Tensor x = state_input({rows, columns});
      const Tensor y = output({rows, columns});
      return [=, &b] { b.cast(lane, y, x); };
    }
    case MemoryKernel::Fill: {
      const Tensor y = state_output({rows, columns});
      return [=, &b] { b.fill(lane, y, 0); };
    }
    case MemoryKernel::Sigmoid: {
      const Tensor c = operands_.fresh_output(operands_.state(), {columns});
      return [=, &b] { b.sigmoid(lane, c); };
    }
    default: {
      const Tensor c = state_input({columns}), dc = operands_.fresh_output(operands_.state(), {columns});
      return [=, &b] { b.sigmoid_backward(lane, c, dc); };
    }
  }
}

}  // namespace moecast
