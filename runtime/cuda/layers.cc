#include <cmath>

#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/tensor_data.h"

namespace moecast::cuda {
namespace {

ActivationKind activation_kind(Activation kind) {
  switch (kind) {
    case Activation::Gelu:
      return ActivationKind::Gelu;
    case Activation::Relu:
      return ActivationKind::Relu;
    case Activation::SwiGlu:
      return ActivationKind::SwiGlu;
    case Activation::GeGlu:
      ASSERT(false, "the trainer refuses geglu");
  }
  return ActivationKind::Gelu;
}

/// body(table) for every GroupTable::kMax groups.
template <typename Body>
void for_group_tables(std::span<const std::int64_t> offsets, Index weights, const Body& body) {
  ASSERT(offsets.size() >= 2 && offsets.back() <= INT32_MAX, "{} offsets", offsets.size());
  const std::size_t groups = offsets.size() - 1;
  for (std::size_t first = 0; first < groups; first += GroupTable::kMax) {
    GroupTable table;
    table.count = static_cast<int>(std::min<std::size_t>(groups - first, GroupTable::kMax));
    table.first_group = static_cast<int>(first);
    table.weights = static_cast<int>(weights);
    for (int g = 0; g <= table.count; ++g) {
      table.offset[g] = static_cast<int>(offsets[first + static_cast<std::size_t>(g)]);
    }
    body(table);
  }
}

}  // namespace

void CudaBackend::bias_add(Lane lane, Tensor x, Tensor b, std::span<const std::int64_t> offsets) {
  const Index columns = x.columns();
  const Index weights = b.rows();
  ASSERT(offsets.back() <= x.rows(), "{} rows of {}", offsets.back(), x.rows());
  const void* bias = data_like(b, x, weights * columns);
  cudaStream_t stream = select(lane).stream;
  for_group_tables(offsets, weights, [&](const GroupTable& table) {
    note(launch_bias_add(stream, real(x), x.data, bias, table, columns), "bias_add");
  });
}

void CudaBackend::bias_gradient(Lane lane, Tensor dx, std::span<const std::int64_t> offsets, Tensor db) {
  const Index columns = dx.columns();
  const Index weights = db.rows();
  ASSERT(offsets.back() <= dx.rows(), "{} rows of {}", offsets.back(), dx.rows());
  float* gradient = floats(db, weights * columns);
  LaneState& state = select(lane);
  for_group_tables(offsets, weights, [&](const GroupTable& table) {
    float* partial = scratch<float>(state, bias_gradient_scratch(table, columns));
    if (partial == nullptr) return;
    note(launch_bias_gradient(state.stream, real(dx), dx.data, table, columns, partial, gradient), "bias_gradient");
  });
}

void CudaBackend::activation(Lane lane, Activation kind, Tensor pre, Tensor out) {
  const Index factor = kind == Activation::SwiGlu ? 2 : 1;
  const Index rows = out.rows();
  const Index columns = out.columns();
  note(launch_activation(select(lane).stream, real(pre), activation_kind(kind), data(pre, rows * factor * columns),
                         data_like(out, pre, rows * columns), rows, columns),
       "activation");
}

void CudaBackend::activation_backward(Lane lane, Activation kind, Tensor pre, Tensor dout, Tensor dpre) {
  const Index factor = kind == Activation::SwiGlu ? 2 : 1;
  const Index rows = dout.rows();
  const Index columns = dout.columns();
  note(launch_activation_backward(select(lane).stream, real(pre), activation_kind(kind),
                                  data(pre, rows * factor * columns), data_like(dout, pre, rows * columns),
                                  data_like(dpre, pre, rows * factor * columns), rows, columns),
       "activation_backward");
}

void CudaBackend::norm(Lane lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y,
                       Tensor mean, Tensor rstd) {
  ASSERT((kind == NormKind::LayerNorm) == !mean.empty(), "LayerNorm has a mean, RMSNorm has none");
  const Index rows = x.rows();
  const Index columns = x.columns();
  note(launch_norm(select(lane).stream, real(x), x.data, data_like(gain, x, columns),
                   optional_data_like(bias, x, columns), static_cast<float>(epsilon), data_like(y, x, rows * columns),
                   optional_floats(mean, rows), floats(rstd, rows), rows, columns),
       "norm");
}

void CudaBackend::norm_backward(Lane lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd,
                                Tensor dx, bool accumulate, Tensor dgain, Tensor dbias) {
  ASSERT((kind == NormKind::LayerNorm) == !mean.empty(), "LayerNorm has a mean, RMSNorm has none");
  const Index rows = x.rows();
  const Index columns = x.columns();
  LaneState& state = select(lane);
  float* partial = scratch<float>(state, norm_backward_scratch(multiprocessors_, columns));
  if (partial == nullptr) return;
  note(launch_norm_backward(state.stream, real(x), multiprocessors_, data_like(dy, x, rows * columns), x.data,
                            data_like(gain, x, columns), optional_floats(mean, rows), floats(rstd, rows),
                            data_like(dx, x, rows * columns), accumulate, partial, floats(dgain, columns),
                            optional_floats(dbias, columns), rows, columns),
       "norm_backward");
}

void CudaBackend::embedding(Lane lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) {
  ASSERT(positions.empty() || sequence <= positions.rows(), "{} positions of {}", sequence, positions.rows());
  const Index rows = out.rows();
  const Index columns = out.columns();
  note(launch_embedding(
           select(lane).stream, real(out), integers(ids, rows), data_like(tokens, out, tokens.rows() * columns),
           optional_data_like(positions, out, positions.rows() * columns), sequence, out.data, rows, columns),
       "embedding");
}

void CudaBackend::embedding_backward(Lane lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                                     Tensor dpositions) {
  ASSERT(dpositions.empty() || sequence <= dpositions.rows(), "{} positions of {}", sequence, dpositions.rows());
  const Index rows = dout.rows();
  const Index columns = dout.columns();
  const Index vocabulary = dtokens.rows();
  LaneState& state = select(lane);
  std::int32_t* sort = scratch<std::int32_t>(state, embedding_backward_scratch(rows, vocabulary));
  if (sort == nullptr) return;
  note(launch_embedding_backward(
           state.stream, real(dout), integers(ids, rows), dout.data, sequence, floats(dtokens, vocabulary * columns),
           optional_floats(dpositions, dpositions.rows() * columns), sort, rows, columns, vocabulary),
       "embedding_backward");
}

void CudaBackend::cross_entropy(Lane lane, Tensor logits, Tensor targets, double scale, Tensor loss) {
  const Index rows = logits.rows();
  note(launch_cross_entropy(select(lane).stream, real(logits), logits.data, integers(targets, rows),
                            static_cast<float>(scale), floats(loss, rows), rows, logits.columns()),
       "cross_entropy");
}

void CudaBackend::adamw(Lane lane, const AdamWStep& step, Tensor master, Tensor gradient, Tensor first_moment,
                        Tensor second_moment, Tensor weight) {
  const Index count = master.element_count();
  AdamWArguments arguments;
  arguments.learning_rate = static_cast<float>(step.learning_rate);
  arguments.beta1 = static_cast<float>(step.beta1);
  arguments.beta2 = static_cast<float>(step.beta2);
  arguments.epsilon = static_cast<float>(step.epsilon);
  arguments.weight_decay = static_cast<float>(step.weight_decay);
  arguments.gradient_scale = static_cast<float>(step.gradient_scale);
  const double exponent = static_cast<double>(step.step);
  arguments.correction1 = static_cast<float>(1 / (1 - std::pow(step.beta1, exponent)));
  arguments.correction2 = static_cast<float>(1 / (1 - std::pow(step.beta2, exponent)));
  void* rounded = weight.data == master.data ? nullptr : data(weight, count);
  note(launch_adamw(select(lane).stream, arguments, floats(master, count), floats(gradient, count),
                    floats(first_moment, count), floats(second_moment, count), real(weight), rounded, count),
       "adamw");
}

void CudaBackend::follow_load(Lane, double, double, Tensor, Tensor, Tensor) {
  ASSERT(false, "the trainer refuses router.selection_bias on CUDA");
}

void CudaBackend::squared_norm(Lane lane, Tensor x, Tensor out, bool accumulate) {
  ASSERT(out.dtype == DType::F64 && out.element_count() == 1, "out must be F64 [1]");
  LaneState& state = select(lane);
  double* partial = scratch<double>(state, kSquaredNormScratch);
  if (partial == nullptr) return;
  note(launch_squared_norm(state.stream, floats(x, x.element_count()), x.element_count(), partial,
                           static_cast<double*>(out.data), accumulate),
       "squared_norm");
}

}  // namespace moecast::cuda
