#pragma once

#include "base/json_reader.h"
#include "models/moe_model.h"

namespace moecast {

// How model files spell the values of a model.
inline const EnumNames<Activation> kActivations = {{"gelu", Activation::Gelu},
                                                   {"relu", Activation::Relu},
                                                   {"swiglu", Activation::SwiGlu},
                                                   {"geglu", Activation::GeGlu}};
inline const EnumNames<NormKind> kNorms = {{"layer_norm", NormKind::LayerNorm}, {"rms_norm", NormKind::RmsNorm}};
inline const EnumNames<PositionKind> kPositions = {{"learned", PositionKind::Learned}, {"rope", PositionKind::Rope}};
inline const EnumNames<QkNorm> kQkNorms = {{"none", QkNorm::None}, {"head", QkNorm::Head}, {"width", QkNorm::Width}};
inline const EnumNames<RouterKind> kRouters = {{"softmax_top_k", RouterKind::SoftmaxTopK},
                                               {"top_k_softmax", RouterKind::TopKSoftmax},
                                               {"sigmoid_top_k", RouterKind::SigmoidTopK},
                                               {"noisy_top_k", RouterKind::NoisyTopK},
                                               {"random_second", RouterKind::RandomSecond},
                                               {"sparse_mixer", RouterKind::SparseMixer},
                                               {"expert_choice", RouterKind::ExpertChoice},
                                               {"hash", RouterKind::Hash},
                                               {"random", RouterKind::Random}};
inline const EnumNames<Shortcut> kShortcuts = {
    {"none", Shortcut::None}, {"pos1", Shortcut::Pos1}, {"pos2", Shortcut::Pos2}, {"pos3", Shortcut::Pos3}};
inline const EnumNames<CoefficientGate> kCoefficientGates = {
    {"direct_add", CoefficientGate::DirectAdd}, {"cg1", CoefficientGate::Cg1}, {"cg2", CoefficientGate::Cg2}};

}  // namespace moecast
