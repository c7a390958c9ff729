#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace moecast {

/// A text as byte tokens (token = byte). The last 5 % are held out for validation.
struct TokenText {
  std::string bytes;
  std::size_t train_size = 0;

  [[nodiscard]] std::string_view train() const { return std::string_view(bytes).substr(0, train_size); }
  [[nodiscard]] std::string_view held_out() const { return std::string_view(bytes).substr(train_size); }
};

/// Reads a text file. BadInput that names the file when it cannot be read, has a byte that is not below `vocabulary`,
/// or is too short: both parts need sequence + 1 tokens.
[[nodiscard]] Result<TokenText> load_token_text(const std::filesystem::path& path, std::int64_t vocabulary,
                                                std::int64_t sequence);

/// Entropy of the single-token distribution, nats per token: the loss of a model that knows only frequencies.
[[nodiscard]] double unigram_entropy(std::string_view text);

/// Sequences of tokens and, for each token, the one that follows it.
struct TokenBatch {
  std::vector<std::int32_t> ids;      // [sequences * length]
  std::vector<std::int32_t> targets;  // [sequences * length]
  void clear();
  void append(std::string_view text, std::size_t start, std::int64_t length);
};

/// Which sequences of a step's global batch belong to one rank: a block of ranks * per_rank sequences is numbered rank
/// by rank, so the global batch is the same however many ranks share it.
struct BatchShare {
  std::int64_t rank = 0;
  std::int64_t ranks = 1;
  std::int64_t per_rank = 1;  // sequences of one rank and step, all micro-batches
  std::int64_t length = 0;    // tokens of a sequence
};

/// Training sequences of step `step`: the start of the q-th sequence of the run is a uniform draw that depends on the
/// seed and q alone.
void draw_training_batch(const TokenText& text, const BatchShare& share, std::uint64_t seed, std::int64_t step,
                         TokenBatch& out);

/// Held-out windows, one after the other; starts again at the first when they run out.
void take_validation_batch(const TokenText& text, const BatchShare& share, std::int64_t index, TokenBatch& out);
/// How many whole windows of `length` tokens the held-out part has; at least 1.
[[nodiscard]] std::int64_t validation_window_count(const TokenText& text, std::int64_t length);

}  // namespace moecast
