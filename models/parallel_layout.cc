#include "models/parallel_layout.h"

#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace moecast {

namespace {

/// rank = tensor + T * (expert + E * (replica + R * pipeline)); the data index is expert + E * replica.
struct Coordinates {
  std::int64_t tensor = 0, expert = 0, replica = 0, pipeline = 0;
};

Coordinates coordinates(const ParallelLayout& layout, Rank rank) {
  std::int64_t rest = rank.value();
  const auto next = [&rest](std::int64_t degree) {
    const std::int64_t index = rest % degree;
    rest /= degree;
    return index;
  };
  Coordinates at;
  at.tensor = next(layout.tensor);
  at.expert = next(layout.expert);
  at.replica = next(layout.data / layout.expert);
  at.pipeline = rest;
  return at;
}

/// A group is an arithmetic progression of ranks: `position` of the rank in it, and the distance of its members.
struct Progression {
  std::int64_t position = 0, stride = 1;
};

Progression progression(const ParallelLayout& layout, Group group, Rank rank) {
  const Coordinates at = coordinates(layout, rank);
  switch (group) {
    case Group::World:
      return {rank.value(), 1};
    case Group::Tensor:
      return {at.tensor, 1};
    case Group::Expert:
      return {at.expert, layout.tensor};
    case Group::Data:
      return {at.expert + layout.expert * at.replica, layout.tensor};
    case Group::ExpertData:
      return {at.replica, layout.tensor * layout.expert};
    case Group::Pipeline:
      return {at.pipeline, layout.tensor * layout.data};
  }
  ASSERT(false, "no such group: {}", static_cast<int>(group));
}

/// "expert degrees 1, 2, 3, 6 fit data 6, data degrees 4, 8 fit expert 4": what is near a pair that does not divide.
std::string fitting_degrees(std::int64_t data, std::int64_t expert) {
  std::vector<std::int64_t> divisors;
  for (std::int64_t degree = 1; degree <= data; ++degree) {
    if (data % degree == 0) divisors.push_back(degree);
  }
  const std::int64_t below = data / expert * expert;
  const std::string multiples = below > 0 ? fmt::format("{}, {}", below, below + expert) : fmt::format("{}", expert);
  return fmt::format("expert degrees {} fit data {}, data degrees {} fit expert {}", fmt::join(divisors, ", "), data,
                     multiples, expert);
}

}  // namespace

std::int64_t ParallelLayout::group_size(Group group) const {
  switch (group) {
    case Group::World:
      return world_size();
    case Group::Tensor:
      return tensor;
    case Group::Expert:
      return expert;
    case Group::Data:
      return data;
    case Group::ExpertData:
      return data / expert;
    case Group::Pipeline:
      return pipeline;
  }
  ASSERT(false, "no such group: {}", static_cast<int>(group));
}

std::vector<Rank> ParallelLayout::members(Group group, Rank rank) const {
  ASSERT(rank.value() >= 0 && rank.value() < world_size(), "rank {} of {}", rank.value(), world_size());
  const Progression own = progression(*this, group, rank);
  const std::int64_t first = rank.value() - own.position * own.stride;
  std::vector<Rank> ranks;
  for (std::int64_t i = 0; i < group_size(group); ++i) {
    ranks.push_back(Rank(static_cast<std::int32_t>(first + i * own.stride)));
  }
  return ranks;
}

std::int64_t ParallelLayout::position(Group group, Rank rank) const {
  ASSERT(rank.value() >= 0 && rank.value() < world_size(), "rank {} of {}", rank.value(), world_size());
  return progression(*this, group, rank).position;
}

Status ParallelLayout::check() const {
  std::vector<std::string> problems;
  for (const auto& [name, degree] :
       {std::pair{"data", data}, {"expert", expert}, {"tensor", tensor}, {"pipeline", pipeline}}) {
    if (degree < 1) problems.push_back(fmt::format("{} degree is {}: expected 1 or more", name, degree));
  }
  if (data >= 1 && expert >= 1 && data % expert != 0) {
    problems.push_back(fmt::format("data degree {} is not divisible by expert degree {}: {}", data, expert,
                                   fitting_degrees(data, expert)));
  }
  if (zero_stage < 0 || zero_stage > 3) {
    problems.push_back(fmt::format("zero_stage is {}: expected 0, 1, 2 or 3", zero_stage));
  }
  if (problems.empty()) return {};
  return Error{ErrorKind::BadInput, "parallel", fmt::format("{}", fmt::join(problems, "; "))};
}

}  // namespace moecast
