#include "models/moe_model.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace moecast {

std::optional<std::int64_t> MoeFfn::capacity(std::int64_t tokens) const {
  if (!capacity_factor) return std::nullopt;
  ASSERT(tokens >= 1 && expert_count >= 1 && *capacity_factor > 0, "tokens {}, experts {}, factor {}", tokens,
         expert_count, *capacity_factor);
  const std::int64_t even_share = (tokens + choice_count() - 1) / choice_count();
  const auto slots = static_cast<std::int64_t>(*capacity_factor * static_cast<double>(even_share));  // floor
  return gate.top_k * std::max<std::int64_t>(slots, 1);
}

double MoeFfn::computing_choices() const {
  return static_cast<double>(gate.top_k * expert_count) / static_cast<double>(choice_count());
}

std::int64_t MoeFfn::routed_rows(std::int64_t tokens) const {
  return std::llround(static_cast<double>(tokens) * computing_choices());
}

}  // namespace moecast
