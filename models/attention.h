#pragma once

#include <cstdint>
#include <optional>

namespace moecast {

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1). Queries, and keys and values together,
/// come from projections through a narrow latent. Of a head's query and key `rope_dim` columns carry the position;
/// those of the key are one for all heads and stand beside the latent. What decoding keeps of a token is latent and
/// rope key.
struct LatentAttention {
  std::optional<std::int64_t> query_rank = std::nullopt;  // no value: queries come from d_model at once (V2-Lite)
  std::int64_t kv_rank = 0;
  std::int64_t nope_dim = 0;   // columns of a head's query and key without position
  std::int64_t rope_dim = 0;   // and with
  std::int64_t value_dim = 0;  // columns of a head's value

  friend bool operator==(const LatentAttention&, const LatentAttention&) = default;
};

/// RMSNorm of queries and keys before the scores.
enum class QkNorm {
  None,
  Head,   // of each head, one gain of head_dim for all (Qwen3)
  Width,  // of all heads together (OLMoE)
};

struct Attention {
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;   // heads % kv_heads == 0; with `latent`: heads
  std::int64_t head_dim = 64;  // of query and key; with `latent`: nope_dim + rope_dim
  std::optional<LatentAttention> latent = std::nullopt;
  QkNorm qk_norm = QkNorm::None;  // without `latent`, which has norms of its own
  bool qkv_bias = false;          // queries, keys and values have biases even where MoeModel::bias is false (Qwen2)
  /// A token sees the last `window` tokens, itself included; no value: all before it. In blocks i with
  /// i % full_every == full_offset it sees all (full_every 0: there are none).
  std::optional<std::int64_t> window = std::nullopt;
  std::int64_t full_every = 0;
  std::int64_t full_offset = 0;

  [[nodiscard]] std::int64_t query_width() const { return heads * head_dim; }
  [[nodiscard]] std::int64_t kv_width() const { return kv_heads * head_dim; }              // without `latent`
  [[nodiscard]] std::int64_t qkv_width() const { return query_width() + 2 * kv_width(); }  // without `latent`
  [[nodiscard]] std::int64_t value_dim() const { return latent ? latent->value_dim : head_dim; }
  [[nodiscard]] std::int64_t output_width() const { return heads * value_dim(); }  // rows of the output projection
  /// Columns of the queries, keys and values that the core reads: qkv_width() without `latent`.
  [[nodiscard]] std::int64_t core_width() const { return query_width() + kv_heads * (head_dim + value_dim()); }
  /// Elements that decoding keeps of each token in each block.
  [[nodiscard]] std::int64_t cache_width() const {
    return latent ? latent->kv_rank + latent->rope_dim : 2 * kv_width();
  }
  [[nodiscard]] std::optional<std::int64_t> window_of(std::int64_t block) const {
    return full_every > 0 && block % full_every == full_offset ? std::nullopt : window;
  }

  friend bool operator==(const Attention&, const Attention&) = default;
};

}  // namespace moecast
