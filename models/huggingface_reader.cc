#include "models/huggingface_reader.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace moecast {

namespace {

constexpr std::int64_t kLargest = 1'000'000'000;  // ranges are checked with the finished model

/// Parts of names that speak of shape or cost.
constexpr std::array<std::string_view, 33> kMattering = {
    "expert", "moe",   "rout",   "gate",   "layer",  "head",  "hidden", "width", "dim",    "rank",     "attention",
    "attn",   "group", "topk",   "shared", "latent", "mamba", "conv",   "ssm",   "linear", "block",    "mlp",
    "ffn",    "vocab", "index_", "mtp",    "nextn",  "bias",  "window", "hc_",   "scale",  "compress", "intermediate"};

/// Names with a part from above that change no shape: initialisation, generation, scaling of values, switches of an
/// implementation.
constexpr std::array<std::string_view, 22> kHarmless = {"initializer",
                                                        "dropout",
                                                        "pdrop",
                                                        "jitter",
                                                        "z_loss",
                                                        "output_",
                                                        "token_i",
                                                        "beam",
                                                        "chunk_size_feed_forward",
                                                        "pruned_heads",
                                                        "lm_head_bias",
                                                        "partial_rotary",
                                                        "rope_scaling",
                                                        "multiplier",
                                                        "mla_scale",
                                                        "attn_scale",
                                                        "attn_temperature",
                                                        "floor_scale",
                                                        "attn_implementation",
                                                        "attention_method",
                                                        "expert_dtype",
                                                        "layer_norm_eps"};

template <std::size_t N>
bool contains_any(const std::string& key, const std::array<std::string_view, N>& parts) {
  return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return key.find(part) != key.npos; });
}

}  // namespace

bool HuggingFaceReader::has(std::string_view key) {
  asked_.emplace(key);
  const std::string kind = reader_.kind(key);
  return !kind.empty() && kind != "null";
}

std::int64_t HuggingFaceReader::count(Names names, std::optional<std::int64_t> fallback) {
  std::string_view there;
  for (const std::string_view name : names) {
    if (has(name) && there.empty()) there = name;
  }
  if (!there.empty()) return reader_.integer(there, fallback == 0 ? 0 : 1, kLargest);
  if (fallback) return *fallback;
  reader_.problem(*names.begin(), "missing-key", fmt::format("the key \"{}\"", fmt::join(names, "\" or \"")),
                  "nothing");
  return 1;
}

double HuggingFaceReader::number(std::string_view key, double fallback) {
  return has(key) ? reader_.number(key, -1e18, 1e18) : fallback;
}

bool HuggingFaceReader::boolean(std::string_view key, bool fallback) {
  return has(key) ? reader_.boolean(key) : fallback;
}

std::string HuggingFaceReader::text(std::string_view key, std::string fallback) {
  return has(key) ? reader_.text(key) : std::move(fallback);
}

std::vector<std::int64_t> HuggingFaceReader::counts(std::string_view key) {
  return has(key) ? reader_.integers(key, 0, kLargest) : std::vector<std::int64_t>();
}

std::vector<std::string> HuggingFaceReader::texts(std::string_view key) {
  return has(key) ? reader_.texts(key) : std::vector<std::string>();
}

HuggingFaceReader HuggingFaceReader::object(std::string_view key) {
  asked_.emplace(key);
  return HuggingFaceReader(reader_.object(key));
}

void HuggingFaceReader::problem(std::string_view key, std::string expected, std::string found) {
  reader_.problem(key, "unsupported", std::move(expected), std::move(found));
}

/// A key that is absent in effect (null, false, 0, empty) matters to nobody.
bool HuggingFaceReader::matters(const std::string& key) {
  const nlohmann::ordered_json value = reader_.raw(key);
  if (value.empty() || value == false || value == 0 || value == "") return false;
  return !key.starts_with("_") && contains_any(key, kMattering) && !contains_any(key, kHarmless);
}

std::vector<std::string> HuggingFaceReader::unplaced(const std::set<std::string, std::less<>>& known) {
  std::vector<std::string> out;
  for (const std::string& key : reader_.keys()) {
    if (!asked_.contains(key) && !known.contains(key) && matters(key)) out.push_back(key);
  }
  return out;
}

void HuggingFaceReader::place_the_rest(std::vector<std::string>& ignored) {
  for (const std::string& key : reader_.keys()) {
    if (asked_.contains(key)) continue;
    if (matters(key)) {
      reader_.problem(key, "unplaced", "a key that has a place in our model (remove it if it changes no shape)",
                      fmt::format("\"{}\"", key));
    } else {
      ignored.push_back(key);
    }
  }
}

}  // namespace moecast
