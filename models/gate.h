#pragma once

#include <cstdint>

namespace moecast {

/// How a router turns logits into a choice of experts and combine weights (facts of one gate call; no sizes).
/// The order of softmax and top-k is explicit: with k = 1, softmax after top-k gives weight 1 to every token.
enum class RouterKind {
  SoftmaxTopK,   // softmax over all experts, then top-k of the probabilities (GShard, Switch, Mixtral, Qwen)
  TopKSoftmax,   // top-k of the logits, then softmax over the chosen k (Shazeer 2017, gpt-oss)
  SigmoidTopK,   // sigmoid of each logit, then top-k (DeepSeek-V3; Llama 4, which weighs the expert's input)
  NoisyTopK,     // TopKSoftmax of x W + N(0,1) softplus(x W_noise) (Shazeer 2017, arXiv 1701.06538, eqs 3-5)
  RandomSecond,  // top-2 of the softmax, renormalised; the second is kept with probability 2 g_2 (GShard, arXiv
                 // 2006.16668, algorithm 1)
  SparseMixer,   // two sampled arg-maxes, each of a masked softmax (arXiv 2310.00811; Phi-3.5-MoE)
  ExpertChoice,  // each expert takes its best tokens, as many as its capacity (Zhou et al., arXiv 2202.09368, eq 1)
  Hash,          // a fixed random table by the token's identity: nothing is learnt (Roller et al., arXiv 2106.04426)
  Random,        // uniform draws (THOR, arXiv 2110.04260)
};

/// Losses of the gate beside the balance loss: their values, or the coefficients that they are multiplied by.
struct RouterLosses {
  double importance =
      0;            // CV^2 over the experts of the sum of their weights (Shazeer 2017, arXiv 1701.06538, eqs 6, 7)
  double load = 0;  // CV^2 of the expected number of tokens; NoisyTopK only (Shazeer 2017, eqs 8-11)
  double z = 0;     // mean over tokens of log^2 sum_e exp(logit_e) (ST-MoE, arXiv 2202.08906, eq 5)

  [[nodiscard]] bool any() const { return importance > 0 || load > 0 || z > 0; }

  friend bool operator==(const RouterLosses&, const RouterLosses&) = default;
};

struct GateRule {
  RouterKind router = RouterKind::SoftmaxTopK;
  std::int64_t top_k = 1;  // ExpertChoice: mean over tokens
  /// SoftmaxTopK and SigmoidTopK: divide the chosen weights by their sum. Applied only if top_k > 1 (Tutel, Arctic).
  bool renormalize = true;
  /// Experts are chosen by score + bias and weighed by the score alone; the bias follows the load and has no gradient
  /// (loss-free balancing, arXiv 2408.15664; DeepSeek-V3, LongCat).
  bool selection_bias = false;
  /// After each step the bias of an expert with fewer tokens than the mean rises by this, with more it falls (arXiv
  /// 2408.15664, algorithm 1). Zero experts keep theirs.
  double bias_rate = 0.001;
  /// Experts stand in `groups` equal groups, of which a token may use the best `top_groups` (DeepSeek-V2 section 2.2.2:
  /// one group for each node). A group's score is its best expert's, with selection_bias the sum of its best two.
  std::int64_t groups = 1;
  std::int64_t top_groups = 1;
  double scale = 1;  // of the combine weights

  /// Choices that are kept for each token: with ExpertChoice any number of the experts may take it.
  [[nodiscard]] std::int64_t choices(std::int64_t experts) const {
    return router == RouterKind::ExpertChoice ? experts : top_k;
  }
  [[nodiscard]] bool has_weights() const { return router != RouterKind::Hash && router != RouterKind::Random; }

  friend bool operator==(const GateRule&, const GateRule&) = default;
};

}  // namespace moecast
