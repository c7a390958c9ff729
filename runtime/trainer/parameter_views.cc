#include "runtime/trainer/parameter_views.h"

#include <string>

#include <fmt/format.h>

namespace moecast {
namespace {

class ViewMaker {
 public:
  ViewMaker(const MoeModel& model, const ParameterStore& store) : model_(model), store_(store) {}

  [[nodiscard]] NormView norm(const std::string& prefix) const {
    NormView view;
    view.gain = weight(prefix + ".gain");
    view.dgain = gradient(prefix + ".gain");
    if (model_.norm == NormKind::LayerNorm) {
      view.bias = weight(prefix + ".bias");
      view.dbias = gradient(prefix + ".bias");
    }
    return view;
  }
  /// A matrix and, if the model has it, its bias.
  [[nodiscard]] LinearView linear(const std::string& w, const std::string& b = {}) const {
    LinearView view{weight(w), {}, gradient(w), {}};
    if (!b.empty() && store_.has(b)) {
      view.b = as_row(weight(b));
      view.db = as_row(gradient(b));
    }
    return view;
  }
  [[nodiscard]] FfnView ffn(const std::string& prefix) const {
    return {norm(prefix + ".norm"), linear(prefix + ".w1", prefix + ".b1"), linear(prefix + ".w2", prefix + ".b2")};
  }
  /// One matrix of all local experts.
  [[nodiscard]] LinearView experts(const std::string& first_expert, const std::string& w, const std::string& b,
                                   std::int64_t count) const {
    const auto stacked = [&](Component component, const std::string& leaf) {
      return store_.stacked(component, first_expert + leaf, count);
    };
    LinearView view{stacked(Component::Weight, w), {}, stacked(Component::Gradient, w), {}};
    if (model_.bias) {
      view.b = stacked(Component::Weight, b);
      view.db = stacked(Component::Gradient, b);
    }
    return view;
  }
  [[nodiscard]] Tensor weight(const std::string& name) const { return store_.tensor(Component::Weight, name); }
  [[nodiscard]] Tensor gradient(const std::string& name) const { return store_.tensor(Component::Gradient, name); }

 private:
  static Tensor as_row(const Tensor& vector) { return vector.reshaped({1, vector.element_count()}); }

  const MoeModel& model_;
  const ParameterStore& store_;
};

BlockView make_block(const ViewMaker& make, const Block& block, std::size_t index, std::int64_t degree,
                     std::int64_t position) {
  const std::string name = fmt::format("blocks.{}", index);
  const std::string attention = name + ".attention";
  BlockView view;
  view.attention = {make.norm(attention + ".norm"), make.linear(attention + ".wqkv", attention + ".bqkv"),
                    make.linear(attention + ".wo", attention + ".bo")};
  if (!block.moe) {
    view.ffn = make.ffn(name + ".mlp");
    return view;
  }
  const MoeFfn& moe = *block.moe;
  if (moe.shared_expert_width > 0) {
    view.ffn = make.ffn(name + ".shared");
    if (coefficient_count(moe.coefficient_gate) > 0) view.coefficient = make.linear(name + ".coefficient.w");
  }
  const std::int64_t local = moe.expert_count / degree;
  const std::string first_expert = fmt::format("{}.experts.{}.", name, position * local);
  view.routed.norm = make.norm(name + ".gate.norm");
  if (moe.gate.has_weights()) view.routed.gate = make.linear(name + ".gate.w");
  if (moe.gate.router == RouterKind::NoisyTopK) view.routed.noise = make.linear(name + ".gate.w_noise");
  if (moe.gate.selection_bias) {
    view.routed.selection_bias = make.weight(name + ".gate.selection_bias");
    view.routed.load = make.gradient(name + ".gate.selection_bias");
  }
  view.routed.in = make.experts(first_expert, "w1", "b1", local);
  view.routed.out = make.experts(first_expert, "w2", "b2", local);
  return view;
}

}  // namespace

ParameterViews make_parameter_views(const MoeModel& model, const ParameterStore& store, std::int64_t expert_degree,
                                    std::int64_t expert_position) {
  const ViewMaker make(model, store);
  ParameterViews views;
  views.token = make.weight("embedding.token");
  views.dtoken = make.gradient("embedding.token");
  if (model.position == PositionKind::Learned) {
    views.position = make.weight("embedding.position");
    views.dposition = make.gradient("embedding.position");
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    views.blocks.push_back(make_block(make, model.blocks[i], i, expert_degree, expert_position));
  }
  views.final_norm = make.norm("final_norm");
  if (!model.tie_embeddings) views.output = make.linear("output.w");
  return views;
}

}  // namespace moecast
