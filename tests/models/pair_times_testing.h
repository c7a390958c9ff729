#pragma once

#include <cstdint>

#include "models/step_plan.h"

namespace moecast::testing_models {

/// Operator times of one pair of blocks, whatever the phase; a chunk takes its share.
struct PairTimes {
  std::int64_t attention = 0, mlp = 0, shared = 0, gate = 0, encode = 0, dispatch = 0, expert = 0, combine = 0,
               decode = 0;

  [[nodiscard]] std::int64_t of(const Operator& op) const {
    switch (op.kind) {
      case OpKind::Attention:
        return attention;
      case OpKind::Mlp:
        return mlp;
      case OpKind::SharedExpert:
        return shared;
      case OpKind::Gate:
        return gate;
      case OpKind::Encode:
        return encode;
      case OpKind::Dispatch:
        return dispatch / op.chunk_count;
      case OpKind::Expert:
        return expert / op.chunk_count;
      case OpKind::Combine:
        return combine / op.chunk_count;
      case OpKind::Decode:
        return decode;
      default:
        return 0;
    }
  }
};

// Figure 7 of the ScMoE paper (arXiv 2404.05019v3) in pixels, multiplied by 2 so that halves are whole.
inline constexpr PairTimes kTop1{166, 76, 76, 66, 12, 108, 98, 178, 12};
inline constexpr PairTimes kTop2{166, 76, 0, 96, 26, 212, 198, 328, 24};

}  // namespace moecast::testing_models
