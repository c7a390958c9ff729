#include "models/moe_model.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

std::optional<std::int64_t> MoeFfn::capacity(std::int64_t tokens) const {
  if (!capacity_factor) return std::nullopt;
  ASSERT(tokens >= 1 && expert_count >= 1 && *capacity_factor > 0, "tokens {}, experts {}, factor {}", tokens,
         expert_count, *capacity_factor);
  const std::int64_t even_share = (tokens + expert_count - 1) / expert_count;
  const auto slots = static_cast<std::int64_t>(*capacity_factor * static_cast<double>(even_share));  // floor
  return gate.top_k * std::max<std::int64_t>(slots, 1);
}

}  // namespace moecast
