#include "runtime/checkpoint/restore_plan.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace moecast {

namespace {

constexpr std::size_t kShownNames = 5;
constexpr std::size_t kShownVersions = 3;

/// Pieces by tensor, then by version, newest first, then by their first element.
class PieceIndex {
 public:
  PieceIndex(const std::vector<NeededSlice>& needs, const std::vector<Piece>& pieces) : needs_(needs), pieces_(pieces) {
    for (const NeededSlice& need : needs) tensors_[key(need.tensor, need.component, need.dtype)];
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto tensor = tensors_.find(key(pieces[i].tensor, pieces[i].component, pieces[i].dtype));
      if (tensor != tensors_.end()) tensor->second[pieces[i].version].push_back(i);
    }
    for (auto& [name, by_version] : tensors_) {
      for (auto& [version, list] : by_version) {
        std::ranges::stable_sort(list, {}, [&](std::size_t i) { return pieces[i].elements.begin; });
      }
    }
  }

  using ByVersion = std::map<std::int64_t, std::vector<std::size_t>, std::greater<>>;
  [[nodiscard]] const ByVersion& versions_of(std::size_t need) const {
    const NeededSlice& wanted = needs_[need];
    return tensors_.at(key(wanted.tensor, wanted.component, wanted.dtype));
  }

  /// Appends the copies that fill the need with pieces of this version; false (and nothing appended) if some element
  /// has none.
  [[nodiscard]] bool cover(std::size_t need, std::int64_t version, std::vector<PieceCopy>& copies) const {
    const ByVersion& by_version = versions_of(need);
    const auto found = by_version.find(version);
    const std::size_t before = copies.size();
    std::int64_t at = needs_[need].elements.begin;
    const std::int64_t end = needs_[need].elements.end;
    while (at < end) {
      const std::optional<std::size_t> piece = found == by_version.end() ? std::nullopt : best_at(found->second, at);
      if (!piece) {
        copies.resize(before);
        return false;
      }
      const std::int64_t next = std::min(end, pieces_[*piece].elements.end);
      copies.push_back({need, *piece, {at, next}});
      at = next;
    }
    return true;
  }

 private:
  using Key = std::tuple<std::string, Component, DType>;
  static Key key(const std::string& tensor, Component component, DType dtype) { return {tensor, component, dtype}; }

  /// The piece with element `at`: memory before storage, then the one that reaches farthest.
  [[nodiscard]] std::optional<std::size_t> best_at(const std::vector<std::size_t>& sorted, std::int64_t at) const {
    std::optional<std::size_t> best;
    for (const std::size_t i : sorted) {
      const Piece& piece = pieces_[i];
      if (piece.elements.begin > at) break;
      if (piece.elements.end <= at) continue;
      const auto rank = [&](const Piece& each) {
        return std::pair(each.level == CheckpointLevel::Memory, each.elements.end);
      };
      if (!best || rank(piece) > rank(pieces_[*best])) best = i;
    }
    return best;
  }

  const std::vector<NeededSlice>& needs_;
  const std::vector<Piece>& pieces_;
  std::map<Key, ByVersion> tensors_;
};

class Planner {
 public:
  Planner(const std::vector<NeededSlice>& needs, const std::vector<Piece>& pieces, const Versions& versions,
          const RestoreBounds& bounds)
      : needs_(needs), versions_(versions), bounds_(bounds), index_(needs, pieces) {
    for (std::size_t i = 0; i < needs.size(); ++i) {
      if (needs[i].elements.count() > 0) members_[needs[i].unit].push_back(i);
    }
  }

  Result<RestorePlan> plan() {
    std::vector<std::string> refusals;
    for (auto candidate = versions_.rbegin(); candidate != versions_.rend(); ++candidate) {
      if (candidate->first > bounds_.version) continue;
      std::string refusal;
      std::optional<RestorePlan> plan = plan_at(candidate->first, candidate->second, refusal);
      if (plan) return std::move(*plan);
      if (refusals.size() < kShownVersions) {
        refusals.push_back(fmt::format("version {} (step {}): {}", candidate->first, candidate->second.step, refusal));
      }
    }
    return Error{ErrorKind::RunFailed, "",
                 refusals.empty() ? std::string("no checkpoint can be restored: there is none")
                                  : fmt::format("no checkpoint can be restored: {}", fmt::join(refusals, "; "))};
  }

 private:
  std::optional<RestorePlan> plan_at(std::int64_t number, const Version& version, std::string& refusal) const {
    RestorePlan plan;
    plan.version = number;
    std::vector<std::string> missing;
    if (const auto base = members_.find(""); base != members_.end()) {
      for (const std::size_t need : base->second) {
        if (!index_.cover(need, number, plan.copies)) missing.push_back(slice_text(need));
      }
    }
    if (!missing.empty()) {
      refusal = "non-expert state without an intact copy: " + names_text(missing);
      return std::nullopt;
    }
    for (const auto& [unit, needs] : members_) {
      if (unit.empty()) continue;
      const std::optional<std::int64_t> chosen = newest(unit, needs, number, version, plan.copies);
      if (chosen) {
        plan.units[unit] = *chosen;
      } else {
        missing.push_back(unit);
      }
    }
    if (!missing.empty()) {
      refusal = "no intact copy that is old enough of " + names_text(missing);
      return std::nullopt;
    }
    return plan;
  }

  std::optional<std::int64_t> newest(const std::string& unit, const std::vector<std::size_t>& needs,
                                     std::int64_t number, const Version& version,
                                     std::vector<PieceCopy>& copies) const {
    const auto bound = bounds_.units.find(unit);
    for (const auto& entry : index_.versions_of(needs.front())) {
      const std::int64_t candidate = entry.first;
      if (bound != bounds_.units.end() && candidate > bound->second) continue;
      if (!allowed(candidate, number, version)) continue;
      const std::size_t before = copies.size();
      if (std::ranges::all_of(needs, [&](std::size_t need) { return index_.cover(need, candidate, copies); })) {
        return candidate;
      }
      copies.resize(before);
    }
    return bounds_.initial_units ? std::optional<std::int64_t>(0) : std::nullopt;
  }

  [[nodiscard]] bool allowed(std::int64_t candidate, std::int64_t number, const Version& version) const {
    if (candidate == number) return true;
    if (bounds_.same_version) return false;
    if (contains(version.history, candidate)) return true;
    if (!bounds_.allow_newer_units || candidate < number) return false;
    const auto newer = versions_.find(candidate);
    return newer != versions_.end() && contains(newer->second.history, number);
  }

  [[nodiscard]] std::string slice_text(std::size_t need) const {
    return fmt::format("{}.{}", needs_[need].tensor, to_text(needs_[need].component));
  }
  static std::string names_text(const std::vector<std::string>& names) {
    const std::vector<std::string> shown(
        names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShownNames)));
    const std::string text = fmt::format("{}", fmt::join(shown, ", "));
    return names.size() > kShownNames ? fmt::format("{} and {} more", text, names.size() - kShownNames) : text;
  }

  const std::vector<NeededSlice>& needs_;
  const Versions& versions_;
  const RestoreBounds& bounds_;
  PieceIndex index_;
  std::map<std::string, std::vector<std::size_t>> members_;  // needs by unit, "" the base
};

}  // namespace

Result<RestorePlan> plan_restore(const std::vector<NeededSlice>& needs, const std::vector<Piece>& pieces,
                                 const Versions& versions, const RestoreBounds& bounds) {
  return Planner(needs, pieces, versions, bounds).plan();
}

}  // namespace moecast
