#include "runtime/trainer/trainable.h"

#include <algorithm>

namespace moecast {

std::vector<std::string> untrainable_parts(const MoeModel& model) {
  std::vector<std::string> parts;
  const auto refuse = [&](bool has, const char* name) {
    if (has && std::find(parts.begin(), parts.end(), name) == parts.end()) parts.emplace_back(name);
  };
  const Attention& attention = model.attention;
  refuse(model.activation == Activation::GeGlu, "activation geglu");
  refuse(attention.latent.has_value(), "attention.latent");
  refuse(attention.qk_norm != QkNorm::None, "attention.qk_norm");
  refuse(attention.qkv_bias && !model.bias, "attention.qkv_bias without bias");
  refuse(attention.window.has_value(), "attention.window");
  for (const Block& block : model.blocks) {
    if (!block.moe) continue;
    const GateRule& gate = block.moe->gate;
    refuse(gate.router != RouterKind::SoftmaxTopK && gate.router != RouterKind::TopKSoftmax,
           "a router.kind other than softmax_top_k and top_k_softmax");
    refuse(gate.selection_bias, "router.selection_bias");
    refuse(gate.groups > 1, "router.groups");
    refuse(gate.scale != 1, "router.scale");
    refuse(block.moe->zero_expert_count > 0, "zero_experts");
    refuse(block.moe->double_gate, "double_gate");
    refuse(block.moe->coefficient_gate == CoefficientGate::Cg2, "coefficient_gate cg2");
  }
  return parts;
}

}  // namespace moecast
