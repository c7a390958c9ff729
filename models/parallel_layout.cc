#include "models/parallel_layout.h"

#include <numeric>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace moecast {

namespace {

std::int64_t ranks_of_stage(const ParallelLayout& layout) { return layout.data * layout.context * layout.tensor; }

/// What an expert degree divides: "data 6", "data degree 6", "data x context x tensor degree 24".
std::string stage_text(const ParallelLayout& layout, std::string_view what) {
  if (layout.context == 1 && layout.tensor == 1) return fmt::format("data{} {}", what, layout.data);
  return fmt::format("data x context x tensor{} {}", what, ranks_of_stage(layout));
}

/// A group is an arithmetic progression of ranks: `position` of the rank in it, and the distance of its members.
struct Progression {
  std::int64_t position = 0, stride = 1;
};

Progression progression(const ParallelLayout& layout, Group group, Rank rank) {
  const std::int64_t in_stage = rank.value() % ranks_of_stage(layout);
  switch (group) {
    case Group::World:
      return {rank.value(), 1};
    case Group::Tensor:
      return {in_stage % layout.tensor, 1};
    case Group::Expert:
      return {in_stage % layout.expert, 1};
    case Group::Data:
      return {in_stage / layout.tensor, layout.tensor};
    case Group::ExpertData:
      return {in_stage / layout.expert, layout.expert};
    case Group::Pipeline:
      return {rank.value() / ranks_of_stage(layout), ranks_of_stage(layout)};
    case Group::Context:
      return {in_stage / layout.tensor % layout.context, layout.tensor};
  }
  ASSERT(false, "no such group: {}", static_cast<int>(group));
}

/// "expert degrees 1, 2, 3, 6 fit data 6, data degrees 4, 8 fit expert 4": what is near a pair that does not divide.
std::string fitting_degrees(const ParallelLayout& layout) {
  const std::int64_t ranks = ranks_of_stage(layout);
  std::vector<std::int64_t> divisors;
  for (std::int64_t degree = 1; degree <= ranks; ++degree) {
    if (ranks % degree == 0) divisors.push_back(degree);
  }
  // data * (context * tensor) has to be a multiple of expert.
  const std::int64_t step = layout.expert / std::gcd(layout.expert, layout.context * layout.tensor);
  const std::int64_t below = layout.data / step * step;
  const std::string multiples = below > 0 ? fmt::format("{}, {}", below, below + step) : fmt::format("{}", step);
  return fmt::format("expert degrees {} fit {}, data degrees {} fit expert {}", fmt::join(divisors, ", "),
                     stage_text(layout, ""), multiples, layout.expert);
}

std::string degree_problems(const ParallelLayout& layout) {
  std::vector<std::string> problems;
  for (const auto& [name, degree] : {std::pair{"data", layout.data},
                                     {"expert", layout.expert},
                                     {"tensor", layout.tensor},
                                     {"pipeline", layout.pipeline},
                                     {"context", layout.context},
                                     {"virtual_stages", layout.virtual_stages}}) {
    if (degree < 1) problems.push_back(fmt::format("{} degree is {}: expected 1 or more", name, degree));
  }
  return fmt::format("{}", fmt::join(problems, "; "));
}

/// What the options of tensor and pipeline parallelism ask of the degrees.
void add_option_problems(const ParallelLayout& layout, std::vector<std::string>& problems) {
  if (layout.sequence_parallel && layout.tensor < 2) {
    problems.push_back(
        fmt::format("sequence_parallel divides tokens over tensor ranks, and tensor is {}: expected 2 "
                    "or more",
                    layout.tensor));
  }
  const bool interleaved = layout.pipeline_schedule == PipelineSchedule::Interleaved;
  if (interleaved != (layout.virtual_stages > 1)) {
    problems.push_back(fmt::format("virtual_stages is {}: expected {} pipeline_schedule", layout.virtual_stages,
                                   interleaved ? "2 or more with this" : "1 without an interleaved"));
  }
  if (layout.uneven_stages && layout.pipeline < 2) {
    problems.push_back(
        fmt::format("uneven_stages is of a pipeline, and pipeline is {}: expected 2 or more", layout.pipeline));
  }
  if (layout.pipeline_schedule != PipelineSchedule::OneForwardOneBackward && layout.pipeline < 2) {
    problems.push_back(
        fmt::format("a pipeline_schedule needs stages, and pipeline is {}: expected 2 or more", layout.pipeline));
  }
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
      return data * context;
    case Group::ExpertData:
      return ranks_of_stage(*this) / expert;
    case Group::Pipeline:
      return pipeline;
    case Group::Context:
      return context;
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
  if (std::string degrees = degree_problems(*this); !degrees.empty()) {
    problems.push_back(std::move(degrees));
  } else {
    if (ranks_of_stage(*this) % expert != 0) {
      problems.push_back(fmt::format("{} is not divisible by expert degree {}: {}", stage_text(*this, " degree"),
                                     expert, fitting_degrees(*this)));
    }
    add_option_problems(*this, problems);
  }
  if (zero_stage < 0 || zero_stage > 3) {
    problems.push_back(fmt::format("zero_stage is {}: expected 0, 1, 2 or 3", zero_stage));
  }
  if (problems.empty()) return {};
  return Error{ErrorKind::BadInput, "parallel", fmt::format("{}", fmt::join(problems, "; "))};
}

}  // namespace moecast
