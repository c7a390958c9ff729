#include "models/operator_work.h"

namespace moecast {

// Multi-head latent attention (models/attention.h). The rope key, one for all heads, is written beside every head's
// key before the core: one Copy of the keys. Tensor ranks have a part of the heads and all of the down projections.

void OperatorWork::add_latent(std::vector<Work>& work) const {
  const std::int64_t T = tokens_, d = model_.d_model;
  const Attention& attention = model_.attention;
  const LatentAttention& latent = *attention.latent;
  const std::int64_t heads = attention.heads / tensor_, query = attention.query_width() / tensor_;
  if (latent.query_rank) {
    work.push_back(GemmWork{T, *latent.query_rank, d});
    work.push_back(memory(MemoryKernel::Norm, T, *latent.query_rank, 2));
  }
  work.push_back(GemmWork{T, query, latent.query_rank.value_or(d)});
  work.push_back(GemmWork{T, latent.kv_rank + latent.rope_dim, d});
  work.push_back(memory(MemoryKernel::Norm, T, latent.kv_rank, 2));
  if (cached_ > 0) {  // the queries' part without position, and after the core its output, through the up projections
    work.push_back(GroupedGemmWork{heads, static_cast<double>(T), latent.kv_rank, latent.nope_dim});
    work.push_back(GroupedGemmWork{heads, static_cast<double>(T), latent.value_dim, latent.kv_rank});
    work.push_back(memory(MemoryKernel::Rope, T, (heads + 1) * latent.rope_dim, 2));
    return;
  }
  work.push_back(GemmWork{T, heads * (latent.nope_dim + latent.value_dim), latent.kv_rank});
  work.push_back(memory(MemoryKernel::Rope, T, (heads + 1) * latent.rope_dim, 2));
  work.push_back(memory(MemoryKernel::Copy, T, query, 2));
}

void OperatorWork::add_latent_gradients(std::vector<Work>& work, bool inputs, bool weights) const {
  const std::int64_t T = tokens_, d = model_.d_model;
  const Attention& attention = model_.attention;
  const LatentAttention& latent = *attention.latent;
  const std::int64_t heads = attention.heads / tensor_, query = attention.query_width() / tensor_;
  const auto product = [&](std::int64_t columns, std::int64_t inner) {
    if (inputs) work.push_back(GemmWork{T, inner, columns});
    if (weights) work.push_back(GemmWork{inner, columns, T});
  };
  const auto input_kernel = [&](MemoryKernel kernel, std::int64_t columns, double operands) {
    if (inputs) work.push_back(memory(kernel, T, columns, operands));
  };
  input_kernel(MemoryKernel::Copy, query, 2);
  input_kernel(MemoryKernel::RopeBackward, (heads + 1) * latent.rope_dim, 2);
  product(heads * (latent.nope_dim + latent.value_dim), latent.kv_rank);
  input_kernel(MemoryKernel::NormBackward, latent.kv_rank, 3);
  product(latent.kv_rank + latent.rope_dim, d);
  product(query, latent.query_rank.value_or(d));
  if (latent.query_rank) {
    input_kernel(MemoryKernel::NormBackward, *latent.query_rank, 3);
    product(*latent.query_rank, d);
  }
  input_kernel(MemoryKernel::Add, d, 3);  // the gradients of both down projections
}

}  // namespace moecast
