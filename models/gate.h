#pragma once

#include <cstdint>

namespace moecast {

/// How a router turns logits into a choice of experts and combine weights (facts of one gate call; no sizes).
/// The order of softmax and top-k is explicit: with k = 1, softmax after top-k gives weight 1 to every token.
enum class RouterKind {
  SoftmaxTopK,  // softmax over all experts, then top-k of the probabilities (GShard, Switch, Mixtral, Qwen)
  TopKSoftmax,  // top-k of the logits, then softmax over the chosen k (Shazeer 2017, gpt-oss)
};

struct GateRule {
  RouterKind router = RouterKind::SoftmaxTopK;
  std::int64_t top_k = 1;
  /// SoftmaxTopK only: divide the chosen weights by their sum. Applied only if top_k > 1 (Tutel, Arctic).
  bool renormalize = true;

  friend bool operator==(const GateRule&, const GateRule&) = default;
};

}  // namespace moecast
