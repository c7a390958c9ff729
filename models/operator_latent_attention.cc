#include "models/operator_work.h"

namespace moecast {

// Multi-head latent attention (models/attention.h). The rope key, one for all heads, is written beside every head's
// key before the core: one Copy of the keys.

std::vector<Work> OperatorWork::latent_forward() const {
  const std::int64_t T = tokens_, d = model_.d_model;
  const Attention& attention = model_.attention;
  const LatentAttention& latent = *attention.latent;
  const std::int64_t keys_values = attention.heads * (latent.nope_dim + latent.value_dim);
  std::vector<Work> work;
  if (latent.query_rank) {
    work.push_back(GemmWork{T, *latent.query_rank, d});
    work.push_back(memory(MemoryKernel::Norm, T, *latent.query_rank, 2));
  }
  work.push_back(GemmWork{T, attention.query_width(), latent.query_rank.value_or(d)});
  work.push_back(GemmWork{T, latent.kv_rank + latent.rope_dim, d});
  work.push_back(memory(MemoryKernel::Norm, T, latent.kv_rank, 2));
  work.push_back(GemmWork{T, keys_values, latent.kv_rank});
  work.push_back(memory(MemoryKernel::Rope, T, (attention.heads + 1) * latent.rope_dim, 2));
  work.push_back(memory(MemoryKernel::Copy, T, attention.query_width(), 2));
  return work;
}

std::vector<Work> OperatorWork::latent_backward() const {
  const std::int64_t T = tokens_, d = model_.d_model;
  const Attention& attention = model_.attention;
  const LatentAttention& latent = *attention.latent;
  const std::int64_t keys_values = attention.heads * (latent.nope_dim + latent.value_dim);
  const std::int64_t down = latent.kv_rank + latent.rope_dim;
  std::vector<Work> work;
  const auto product_backward = [&](std::int64_t columns, std::int64_t inner) {
    work.push_back(GemmWork{T, inner, columns});
    work.push_back(GemmWork{inner, columns, T});
  };
  work.push_back(memory(MemoryKernel::Copy, T, attention.query_width(), 2));
  work.push_back(memory(MemoryKernel::RopeBackward, T, (attention.heads + 1) * latent.rope_dim, 2));
  product_backward(keys_values, latent.kv_rank);
  work.push_back(memory(MemoryKernel::NormBackward, T, latent.kv_rank, 3));
  product_backward(down, d);
  product_backward(attention.query_width(), latent.query_rank.value_or(d));
  if (latent.query_rank) {
    work.push_back(memory(MemoryKernel::NormBackward, T, *latent.query_rank, 3));
    product_backward(*latent.query_rank, d);
  }
  work.push_back(memory(MemoryKernel::Add, T, d, 3));  // the gradients of both down projections
  return work;
}

}  // namespace moecast
