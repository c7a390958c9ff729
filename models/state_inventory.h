#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"

namespace moecast {

/// Which copy of a parameter. Master exists only when the compute weight has fewer bits than F32.
enum class Component { Weight, Master, FirstMoment, SecondMoment, Gradient };

/// One parameter of the model: names follow "blocks.3.experts.5.w1", shapes as in the runtime ([K,N] row-major).
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::optional<LayerId> layer;    // none for embeddings, final norm, output projection
  std::optional<ExpertId> expert;  // routed experts only
  bool decay = true;               // weight decay applies (matrices, not biases, gains or embeddings of position)
  [[nodiscard]] std::int64_t element_count() const;
};

/// Every parameter in one fixed order (blocks ascending, then tensors in the order of use; experts ascending). Memory
/// estimates, checkpoint sizes and the runtime's allocations all come from this list.
[[nodiscard]] std::vector<Parameter> parameters(const MoeModel& model);
/// Those of which `rank` holds a copy: all non-expert parameters and its own experts.
[[nodiscard]] std::vector<Parameter> parameters_of_rank(const MoeModel& model, const ParallelLayout& layout, Rank rank);

struct ParameterCount {
  std::int64_t total = 0;
  std::int64_t active = 0;  // per token: top_k experts of each MoE layer
  std::int64_t expert = 0;  // in routed experts
};
[[nodiscard]] ParameterCount count_parameters(const MoeModel& model);

/// Bytes per parameter of each component in a training run with this compute dtype.
struct Precision {
  std::int64_t weight = 4;
  std::int64_t master = 0;  // 4 when weight < 4
  std::int64_t first_moment = 4;
  std::int64_t second_moment = 4;
  std::int64_t gradient = 4;
};
struct RankMemory {
  Bytes weight{0}, master{0}, moments{0}, gradient{0};
};
[[nodiscard]] RankMemory rank_memory(const MoeModel& model, const ParallelLayout& layout, Rank rank,
                                     const Precision& precision);

}  // namespace moecast
