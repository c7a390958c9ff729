#include "runtime/trainer/trainable.h"

#include <algorithm>

namespace moecast {
namespace {

/// Collects names, each once.
class Refusals {
 public:
  void add(bool has, const char* name) {
    if (has && std::find(parts_.begin(), parts_.end(), name) == parts_.end()) parts_.emplace_back(name);
  }
  [[nodiscard]] std::vector<std::string> take() { return std::move(parts_); }

 private:
  std::vector<std::string> parts_;
};

/// What the kernels of the CUDA module do not have.
void refuse_on_cuda(const MoeFfn& moe, Refusals& refusals) {
  const GateRule& gate = moe.gate;
  const bool plain = gate.router == RouterKind::SoftmaxTopK || gate.router == RouterKind::TopKSoftmax;
  refusals.add(!plain, "a router.kind other than softmax_top_k and top_k_softmax");
  refusals.add(gate.selection_bias, "router.selection_bias");
  refusals.add(gate.groups > 1, "router.groups");
  refusals.add(gate.scale != 1, "router.scale");
  refusals.add(moe.loss_coefficients.any(), "importance_loss, load_loss or z_loss");
  refusals.add(moe.zero_expert_count > 0, "zero_experts");
  refusals.add(moe.double_gate, "double_gate");
  refusals.add(moe.coefficient_gate == CoefficientGate::Cg2, "coefficient_gate cg2");
}

}  // namespace

std::vector<std::string> untrainable_parts(const MoeModel& model, BackendKind backend) {
  Refusals refusals;
  const Attention& attention = model.attention;
  refusals.add(backend == BackendKind::Cuda && model.activation == Activation::GeGlu, "activation geglu");
  refusals.add(attention.latent.has_value(), "attention.latent");
  refusals.add(attention.qk_norm != QkNorm::None, "attention.qk_norm");
  refusals.add(attention.window.has_value(), "attention.window");
  for (const Block& block : model.blocks) {
    if (!block.moe) continue;
    refusals.add(block.moe->gate.router == RouterKind::SparseMixer, "router.kind sparse_mixer");
    if (backend == BackendKind::Cuda) refuse_on_cuda(*block.moe, refusals);
  }
  return refusals.take();
}

}  // namespace moecast
