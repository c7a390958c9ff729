#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "models/timeline.h"

namespace moecast {

/// What an operator waited for last.
enum class WaitedFor {
  Nothing,     // it stands at the beginning of the step
  Lane,        // the operator before it on its lane
  Dependency,  // what it reads
  Message,     // a Receive: the bytes of its Send
};
inline constexpr std::size_t kWaitedForCount = 4;

/// One operator of the chain that ends last: each began when the one before it had ended.
struct PathStep {
  std::int32_t stage = 0;
  OpId op;
  Rank rank;         // on which it waited longest: of a collective, the last to come
  Duration time{};   // from the end of the operator before; of a collective, from when its last rank came
  Duration alone{};  // the same, had nothing else moved or computed
  WaitedFor waited_for = WaitedFor::Nothing;
  bool late_peer = false;  // a collective that another rank of its group had waited for
};

/// All operators of a path with one kind and phase.
struct PathShare {
  OpKind kind = OpKind::Embed;
  Phase phase = Phase::Forward;
  std::int64_t count = 0;
  Duration time{}, alone{};
  std::array<std::int64_t, kWaitedForCount> waited_for{};
  std::int64_t late_peers = 0;
};

/// By time, the longest first. The path is of this timeline.
[[nodiscard]] std::vector<PathShare> path_shares(const std::vector<PathStep>& path, const Timeline& timeline);

}  // namespace moecast
