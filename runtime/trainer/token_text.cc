#include "runtime/trainer/token_text.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/file.h"
#include "base/random.h"

namespace moecast {
namespace {

constexpr std::size_t kHeldOutDivisor = 20;  // the last 5 %

Status check_bytes(const std::string& bytes, std::int64_t vocabulary, const std::string& file) {
  if (vocabulary > 255) return {};
  const auto beyond = std::find_if(bytes.begin(), bytes.end(), [&](char byte) {
    return static_cast<std::int64_t>(static_cast<unsigned char>(byte)) >= vocabulary;
  });
  if (beyond == bytes.end()) return {};
  return Error{ErrorKind::BadInput, file,
               fmt::format("byte {} at offset {}: the model's vocabulary has only {} tokens (a vocabulary of 256 takes "
                           "any text)",
                           static_cast<unsigned char>(*beyond), beyond - bytes.begin(), vocabulary)};
}

}  // namespace

Result<TokenText> load_token_text(const std::filesystem::path& path, std::int64_t vocabulary, std::int64_t sequence) {
  Result<std::string> content = read_file(path);
  if (!content.ok()) return content.error();
  TokenText text;
  text.bytes = std::move(content).value();
  RETURN_IF_ERROR(check_bytes(text.bytes, vocabulary, path.string()));
  text.train_size = text.bytes.size() - text.bytes.size() / kHeldOutDivisor;
  const std::size_t needed = static_cast<std::size_t>(sequence) + 1;
  if (text.held_out().size() < needed || text.train().size() < needed) {
    return Error{ErrorKind::BadInput, path.string(),
                 fmt::format("{} bytes: too short for sequences of {} tokens, expected at least {} bytes (the last 5 % "
                             "are held out)",
                             text.bytes.size(), sequence, needed * kHeldOutDivisor)};
  }
  return text;
}

double unigram_entropy(std::string_view text) {
  std::array<std::int64_t, 256> count{};
  for (const char byte : text) ++count[static_cast<unsigned char>(byte)];
  double entropy = 0;
  for (const std::int64_t n : count) {
    if (n == 0) continue;
    const double share = static_cast<double>(n) / static_cast<double>(text.size());
    entropy -= share * std::log(share);
  }
  return entropy;
}

void TokenBatch::clear() {
  ids.clear();
  targets.clear();
}

void TokenBatch::append(std::string_view text, std::size_t start, std::int64_t length) {
  ASSERT(start + static_cast<std::size_t>(length) < text.size(), "{} + {} of {}", start, length, text.size());
  for (std::size_t t = start; t < start + static_cast<std::size_t>(length); ++t) {
    ids.push_back(static_cast<unsigned char>(text[t]));
    targets.push_back(static_cast<unsigned char>(text[t + 1]));
  }
}

void draw_training_batch(const TokenText& text, const BatchShare& share, std::uint64_t seed, std::int64_t step,
                         TokenBatch& out) {
  const CounterRandom random(seed, stream_of("training sequences"));
  const std::string_view train = text.train();
  const std::int64_t start_count = static_cast<std::int64_t>(train.size()) - share.length;
  const std::int64_t first = (step * share.ranks + share.rank) * share.per_rank;
  out.clear();
  for (std::int64_t q = first; q < first + share.per_rank; ++q) {
    const std::int64_t start = random.below(start_count, static_cast<std::uint64_t>(q), 0);
    out.append(train, static_cast<std::size_t>(start), share.length);
  }
}

std::int64_t validation_window_count(const TokenText& text, std::int64_t length) {
  return std::max<std::int64_t>(1, (static_cast<std::int64_t>(text.held_out().size()) - 1) / length);
}

void take_validation_batch(const TokenText& text, const BatchShare& share, std::int64_t index, TokenBatch& out) {
  const std::int64_t windows = validation_window_count(text, share.length);
  const std::int64_t first = (index * share.ranks + share.rank) * share.per_rank;
  out.clear();
  for (std::int64_t q = first; q < first + share.per_rank; ++q) {
    out.append(text.held_out(), static_cast<std::size_t>((q % windows) * share.length), share.length);
  }
}

}  // namespace moecast
