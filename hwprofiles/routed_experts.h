#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hwprofiles/benchmark_routing.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// The routed experts of one rank, alone on the device: from its tokens to the weighted sum of the experts' outputs,
/// without the router's own product.
struct ExpertCall {
  std::int64_t tokens = 0;
  std::int64_t d_model = 0;
  std::int64_t width = 0;  // f of one expert on this rank
  bool gated = true;       // three matrices, else two
  std::int64_t bytes_per_element = 2;
  std::vector<ExpertRows> draws;  // of one rank's load; the time is the mean over them
};

struct ExpertSample {
  ExpertCall call;
  Duration time{};
  bool held_out = false;
};

/// Groups of unlike sizes: the overhead once, and what each group adds by itself.
[[nodiscard]] Duration grouped_time(const GemmTable& table, const ExpertRows& rows, std::int64_t n, std::int64_t k);

/// Permute, two grouped products with the activation between them, unpermute.
[[nodiscard]] Duration expert_time(const DeviceProfile& device, const ExpertCall& call);

/// The table of grouped products from calls with skewed load. What an expert adds is its rows' flops over a rate that
/// depends on its rows r alone: time t(r) of a flop of one row of weights, piecewise linear in r and never falling.
/// With c the call's flops of one row of an expert and M the memory kernels,
///   min sum_samples w ((2 overhead + sum_experts c t(r) + M - measured) / measured)^2,   increments of t >= 0,
/// by coordinate descent, the weights w = 1 / |relative error| (at least 5 %) renewed a few times: outliers count once,
/// not squared. No rate is above the fastest of the device's single products. At least one sample that is not held out.
[[nodiscard]] GemmTable fit_routed_experts(std::span<const ExpertSample> samples, const DeviceProfile& device);

}  // namespace moecast
