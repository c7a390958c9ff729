#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace moecast {

/// A position that cannot be mixed up with one of another kind. "No value" is std::optional, never -1.
template <typename Tag>
class Id {
 public:
  constexpr Id() = default;
  explicit constexpr Id(std::int32_t value) : value_(value) {}
  [[nodiscard]] constexpr std::int32_t value() const { return value_; }
  [[nodiscard]] constexpr std::size_t index() const { return static_cast<std::size_t>(value_); }
  friend constexpr auto operator<=>(Id, Id) = default;

 private:
  std::int32_t value_ = 0;
};

using Rank = Id<struct RankTag>;        // global rank, 0 .. world size - 1
using LayerId = Id<struct LayerTag>;    // block index, 0 .. layer count - 1
using ExpertId = Id<struct ExpertTag>;  // global routed expert of one layer
using OpId = Id<struct OpTag>;          // position in StepPlan::operators

}  // namespace moecast

template <typename Tag>
struct std::hash<moecast::Id<Tag>> {
  std::size_t operator()(moecast::Id<Tag> id) const noexcept { return std::hash<std::int32_t>{}(id.value()); }
};
