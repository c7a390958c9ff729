#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace moecast {

/// What one rank of an expert group computes when a benchmark spreads tokens over experts.
struct BenchmarkRouting {
  std::int64_t tokens = 1, experts = 1, top_k = 1;
  std::int64_t ranks = 1;    // that hold experts / ranks experts each
  std::string distribution;  // "balanced", "power_law_1.2"
};

/// Rows of each local expert that has any, of one draw.
using ExpertRows = std::vector<double>;

/// Draws of what the timed rank computes, all equally likely; the same on every machine. As in the collectors of
/// ai-dynamo/aiconfigurator (Apache-2.0): balanced, choice j of token i is expert i + j ceil(E / k), thinned out where
/// tokens are few; power law, every expert's popularity is drawn from a density x^-a on [1, 0.8 T] (on [0.01, 2] where
/// there are fewer choices than experts), and the rank with the most rows is timed. BadInput for another distribution
/// or experts that do not divide.
[[nodiscard]] Result<std::vector<ExpertRows>> benchmark_rows(const BenchmarkRouting& routing);

}  // namespace moecast
