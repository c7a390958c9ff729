#include <cmath>
#include <cstring>

#include "runtime/cpu/kernels/blocks.h"
#include "runtime/cpu/kernels/gemm.h"

namespace moecast::cpu::MOECAST_CPU_ISA {
namespace {

/// Queries are taken in blocks of rows; a block sees only the keys up to its last row, which saves half of the work.
constexpr Index kBlockRows = 64;

/// One block of queries of one head. Pointers are at the first row of the block (queries) or of the sequence (keys).
template <typename T>
struct Tile {
  Index first = 0;                                                 // position of the first query in the sequence
  Index rows = 0;                                                  // queries
  Index keys = 0;                                                  // first + rows
  Index stride = 0;                                                // of qkv rows
  Index width = 0;                                                 // of out rows: heads * head_dim
  Index offset_q = 0, offset_k = 0, offset_v = 0, offset_out = 0;  // elements from the beginning of qkv or out
  Index lse = 0;                                                   // index of the first query's log-sum-exp
};

template <typename T>
Tile<T> tile_at(const AttentionCall<T>& call, Index sample, Index head, Index first) {
  Tile<T> tile;
  const Index kv_head = head / (call.heads / call.kv_heads);
  tile.first = first;
  tile.rows = first + kBlockRows <= call.sequence ? kBlockRows : call.sequence - first;
  tile.keys = first + tile.rows;
  tile.width = call.heads * call.head_dim;
  tile.stride = tile.width + 2 * call.kv_heads * call.head_dim;
  const Index token = sample * call.sequence;
  tile.offset_q = (token + first) * tile.stride + head * call.head_dim;
  tile.offset_k = token * tile.stride + tile.width + kv_head * call.head_dim;
  tile.offset_v = tile.offset_k + call.kv_heads * call.head_dim;
  tile.offset_out = (token + first) * tile.width + head * call.head_dim;
  tile.lse = (sample * call.heads + head) * call.sequence + first;
  return tile;
}

template <typename T, typename Body>
void for_tiles(const AttentionCall<T>& call, const Body& body) {
  for (Index sample = 0; sample < call.batch; ++sample) {
    for (Index head = 0; head < call.heads; ++head) {
      for (Index first = 0; first < call.sequence; first += kBlockRows) body(tile_at(call, sample, head, first));
    }
  }
}

/// scores[rows, keys] = q k^T / sqrt(head_dim) (Vaswani et al., arXiv 1706.03762, equation 1).
template <typename T>
void compute_scores(const AttentionCall<T>& call, const Tile<T>& tile, T* scores, Scratch& scratch) {
  const T scale = T(1) / std::sqrt(static_cast<T>(call.head_dim));
  gemm(Gemm<T>{false, true, tile.rows, tile.keys, call.head_dim, call.qkv + tile.offset_q, tile.stride,
               call.qkv + tile.offset_k, tile.stride, scores, tile.keys, scale, false},
       scratch);
}

template <typename T>
void clear_future(T* row, Index visible, Index keys) {
  std::memset(row + visible, 0, static_cast<std::size_t>(keys - visible) * sizeof(T));
}

template <typename T>
void attention(const AttentionCall<T>& call, Scratch& scratch) {
  T* scores = static_cast<T*>(
      scratch.reserve(Scratch::Slot::Work, static_cast<std::size_t>(kBlockRows * call.sequence) * sizeof(T)));
  for_tiles(call, [&](const Tile<T>& tile) {
    compute_scores(call, tile, scores, scratch);
    T inverse_sum[kBlockRows];
    for (Index r = 0; r < tile.rows; ++r) {
      T* row = scores + r * tile.keys;
      const Index visible = tile.first + r + 1;
      const T largest = maximum(row, visible);
      const T sum = exponentials(row, largest, visible);
      clear_future(row, visible, tile.keys);
      inverse_sum[r] = T(1) / sum;
      call.log_sum_exp[tile.lse + r] = largest + std::log(sum);
    }
    T* out = call.out + tile.offset_out;
    gemm(Gemm<T>{false, false, tile.rows, call.head_dim, tile.keys, scores, tile.keys, call.qkv + tile.offset_v,
                 tile.stride, out, tile.width, T(1), false},
         scratch);
    for (Index r = 0; r < tile.rows; ++r) {
      scale_row(out + r * tile.width, inverse_sum[r], out + r * tile.width, call.head_dim);
    }
  });
}

/// p = exp(scores - log_sum_exp) and ds = p * (dp - <dout, out>) / sqrt(head_dim), both zero for the future
/// (FlashAttention-2, arXiv 2307.08691, section 3.1.2). On entry p holds scores and ds holds dp = dout v^T.
template <typename T>
void softmax_gradient(const AttentionCall<T>& call, const Tile<T>& tile, const T* dout, T* p, T* ds) {
  const T scale = T(1) / std::sqrt(static_cast<T>(call.head_dim));
  for (Index r = 0; r < tile.rows; ++r, p += tile.keys, ds += tile.keys) {
    const Index visible = tile.first + r + 1;
    const Index at = tile.offset_out + r * tile.width;
    const T delta = dot(dout + at, static_cast<const T*>(call.out) + at, call.head_dim);
    const T log_sum_exp = call.log_sum_exp[tile.lse + r];
    for_blocks<T>(visible, [&](auto block) {
      const Lanes<T> probability = (block.load_or(p, log_sum_exp) - log_sum_exp).exp();
      block.store(p, probability);
      block.store(ds, probability * (block.load(ds) - delta) * scale);
    });
    clear_future(p, visible, tile.keys);
    clear_future(ds, visible, tile.keys);
  }
}

/// Keys and values collect from all queries and from all heads of their group.
template <typename T>
void clear_key_value_gradients(const AttentionCall<T>& call, T* dqkv) {
  const Index width = call.heads * call.head_dim;
  const Index kv = 2 * call.kv_heads * call.head_dim;
  for (Index t = 0; t < call.batch * call.sequence; ++t) {
    std::memset(dqkv + t * (width + kv) + width, 0, static_cast<std::size_t>(kv) * sizeof(T));
  }
}

template <typename T>
void attention_backward(const AttentionCall<T>& call, const T* dout, T* dqkv, Scratch& scratch) {
  const Index tile_size = kBlockRows * call.sequence;
  T* p = static_cast<T*>(scratch.reserve(Scratch::Slot::Work, static_cast<std::size_t>(2 * tile_size) * sizeof(T)));
  T* ds = p + tile_size;
  clear_key_value_gradients(call, dqkv);
  for_tiles(call, [&](const Tile<T>& tile) {
    const Index d = call.head_dim;
    const T* dy = dout + tile.offset_out;
    compute_scores(call, tile, p, scratch);
    gemm(Gemm<T>{false, true, tile.rows, tile.keys, d, dy, tile.width, call.qkv + tile.offset_v, tile.stride, ds,
                 tile.keys, T(1), false},
         scratch);
    softmax_gradient(call, tile, dout, p, ds);
    gemm(Gemm<T>{true, false, tile.keys, d, tile.rows, p, tile.keys, dy, tile.width, dqkv + tile.offset_v, tile.stride,
                 T(1), true},
         scratch);
    gemm(Gemm<T>{false, false, tile.rows, d, tile.keys, ds, tile.keys, call.qkv + tile.offset_k, tile.stride,
                 dqkv + tile.offset_q, tile.stride, T(1), false},
         scratch);
    gemm(Gemm<T>{true, false, tile.keys, d, tile.rows, ds, tile.keys, call.qkv + tile.offset_q, tile.stride,
                 dqkv + tile.offset_k, tile.stride, T(1), true},
         scratch);
  });
}

/// Rotary position embedding (Su et al., arXiv 2104.09864, equation 34), pairs (i, i + head_dim / 2).
template <typename T>
void rope(const AttentionCall<T>& call, const T* cosine, const T* sine, T* qkv, bool inverse) {
  const Index half = call.head_dim / 2;
  const Index stride = (call.heads + 2 * call.kv_heads) * call.head_dim;
  const T sign = inverse ? T(-1) : T(1);
  for (Index t = 0; t < call.batch * call.sequence; ++t) {
    const T* c = cosine + (t % call.sequence) * half;
    const T* s = sine + (t % call.sequence) * half;
    for (Index head = 0; head < call.heads + call.kv_heads; ++head) {
      T* low = qkv + t * stride + head * call.head_dim;
      T* high = low + half;
      for_blocks<T>(half, [&](auto block) {
        const Lanes<T> a = block.load(low);
        const Lanes<T> b = block.load(high);
        const Lanes<T> turn = sign * block.load(s);
        block.store(low, a * block.load(c) - b * turn);
        block.store(high, b * block.load(c) + a * turn);
      });
    }
  }
}

}  // namespace

template <typename T>
void add_attention_kernels(Kernels<T>& table) {
  table.attention = attention<T>;
  table.attention_backward = attention_backward<T>;
  table.rope = rope<T>;
}

template void add_attention_kernels(Kernels<float>&);
template void add_attention_kernels(Kernels<double>&);

}  // namespace moecast::cpu::MOECAST_CPU_ISA
