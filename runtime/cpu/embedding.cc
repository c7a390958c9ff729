#include <algorithm>

#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

/// Integers that must all lie in [0, limit).
const std::int32_t* checked_ids(const Tensor& ids, std::int64_t count, std::int64_t limit) {
  const std::int32_t* values = elements<std::int32_t>(ids, count);
  const auto outside = [limit](std::int32_t id) { return id < 0 || id >= limit; };
  const std::int32_t* wrong = std::find_if(values, values + count, outside);
  ASSERT(wrong == values + count, "id {} of a vocabulary of {}", *wrong, limit);
  return values;
}

}  // namespace

void CpuBackend::embedding(Lane, Tensor ids, Tensor tokens, Tensor positions, std::int64_t sequence, Tensor out) {
  ASSERT(positions.empty() || sequence <= positions.rows(), "{} positions of {}", sequence, positions.rows());
  with_scalar(out.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.embedding(checked_ids(ids, out.rows(), tokens.rows()), elements<T>(tokens, tokens.rows() * out.columns()),
                      optional_elements<T>(positions, positions.element_count()), sequence, out.rows(), out.columns(),
                      elements<T>(out, out.element_count()));
  });
}

void CpuBackend::embedding_backward(Lane, Tensor ids, Tensor dout, std::int64_t sequence, Tensor dtokens,
                                    Tensor dpositions) {
  ASSERT(dpositions.empty() || sequence <= dpositions.rows(), "{} positions of {}", sequence, dpositions.rows());
  with_scalar(dout.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.embedding_backward(checked_ids(ids, dout.rows(), dtokens.rows()), elements<T>(dout, dout.element_count()),
                               sequence, dout.rows(), dout.columns(),
                               elements<T>(dtokens, dtokens.rows() * dout.columns()),
                               optional_elements<T>(dpositions, dpositions.element_count()));
  });
}

void CpuBackend::cross_entropy(Lane, Tensor logits, Tensor targets, double scale, Tensor loss) {
  with_scalar(logits.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.cross_entropy(elements<T>(logits, logits.element_count()),
                          checked_ids(targets, logits.rows(), logits.columns()), static_cast<T>(scale),
                          elements<T>(loss, logits.rows()), logits.rows(), logits.columns());
  });
}

}  // namespace moecast::cpu
