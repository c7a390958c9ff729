#include "hwprofiles/routed_experts.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <Eigen/Core>

#include "base/assert.h"

namespace moecast {
namespace {

constexpr std::array<std::int64_t, 15> kRows = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
constexpr int kRounds = 6, kSweeps = 300;
constexpr double kSmallError = 0.05;
constexpr auto kUnknowns = static_cast<Eigen::Index>(kRows.size()) + 1;  // increments of t, then the overheads

std::int64_t inner_columns(const ExpertCall& call) { return call.gated ? 2 * call.width : call.width; }

/// The kernels around the products.
Duration memory_time(const DeviceProfile& device, const ExpertCall& call, const ExpertRows& rows) {
  double total = 0;
  for (const double each : rows) total += each;
  const auto count = std::llround(total);
  const std::int64_t element = call.bytes_per_element;
  const auto kernel = [&](MemoryKernel kind, std::int64_t height, std::int64_t columns, std::int64_t elements) {
    return device.time(Work(MemoryWork{kind, height, columns, Bytes(elements * element)}));
  };
  return kernel(MemoryKernel::Permute, count, call.d_model, (call.tokens + count) * call.d_model) +
         kernel(MemoryKernel::Activation, count, call.width, count * (inner_columns(call) + call.width)) +
         kernel(MemoryKernel::Unpermute, call.tokens, call.d_model, (2 * call.tokens + count) * call.d_model);
}

/// One sample: measured = overheads + sum of coefficients * increments + memory.
struct Equation {
  Eigen::VectorXd coefficients = Eigen::VectorXd::Zero(kUnknowns);
  double memory = 0, measured = 0;
};

/// t(r) is the sum of the increments up to r, linear between the nodes (and beyond the last).
void add_expert(Equation& equation, double rows, double flops_of_row) {
  equation.coefficients[0] += flops_of_row;
  for (std::size_t i = 1; i < kRows.size(); ++i) {
    const auto low = static_cast<double>(kRows[i - 1]), high = static_cast<double>(kRows[i]);
    if (rows <= low) break;
    const double inside = (rows - low) / (high - low);
    const bool last = i + 1 == kRows.size();
    equation.coefficients[static_cast<Eigen::Index>(i)] += flops_of_row * (last ? inside : std::min(1.0, inside));
  }
}

Equation equation_of(const ExpertSample& sample, const DeviceProfile& device) {
  const ExpertCall& call = sample.call;
  const auto draws = static_cast<double>(call.draws.size());
  const double flops_of_row = 2 * static_cast<double>(call.d_model * (inner_columns(call) + call.width)) / draws;
  Equation equation;
  equation.measured = seconds(sample.time);
  equation.coefficients[kUnknowns - 1] = 1;
  for (const ExpertRows& rows : call.draws) {
    for (const double each : rows) add_expert(equation, each, flops_of_row);
    equation.memory += seconds(memory_time(device, call, rows)) / draws;
  }
  return equation;
}

/// min |A x - b|^2 with x >= 0, from the normal equations.
Eigen::VectorXd non_negative(const Eigen::MatrixXd& normal, const Eigen::VectorXd& right) {
  Eigen::VectorXd x = Eigen::VectorXd::Zero(kUnknowns);
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (Eigen::Index i = 0; i < kUnknowns; ++i) {
      if (normal(i, i) <= 0) continue;
      x[i] = std::max(0.0, x[i] + (right[i] - normal.row(i).dot(x)) / normal(i, i));
    }
  }
  return x;
}

Eigen::VectorXd solve(const std::vector<Equation>& equations) {
  Eigen::VectorXd x = Eigen::VectorXd::Zero(kUnknowns);
  for (int round = 0; round < kRounds; ++round) {
    Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(kUnknowns, kUnknowns);
    Eigen::VectorXd right = Eigen::VectorXd::Zero(kUnknowns);
    for (const Equation& equation : equations) {
      const double error = std::fabs((equation.coefficients.dot(x) + equation.memory) / equation.measured - 1);
      const double weight =
          (round == 0 ? 1 : 1 / std::max(kSmallError, error)) / (equation.measured * equation.measured);
      const double left = std::max(0.0, equation.measured - equation.memory);
      normal += weight * equation.coefficients * equation.coefficients.transpose();
      right += weight * left * equation.coefficients;
    }
    x = non_negative(normal, right);
  }
  return x;
}

}  // namespace

Duration grouped_time(const GemmTable& table, const ExpertRows& rows, std::int64_t n, std::int64_t k) {
  Duration total = table.overhead;
  for (const double each : rows) total += table.time(each, n, k) - table.overhead;
  return total;
}

Duration expert_time(const DeviceProfile& device, const ExpertCall& call) {
  ASSERT(!call.draws.empty(), "a call without a load");
  double total = 0;
  for (const ExpertRows& rows : call.draws) {
    total +=
        seconds(grouped_time(device.grouped_gemm, rows, inner_columns(call), call.d_model) +
                grouped_time(device.grouped_gemm, rows, call.d_model, call.width) + memory_time(device, call, rows));
  }
  return duration_from_seconds(total / static_cast<double>(call.draws.size()));
}

GemmTable fit_routed_experts(std::span<const ExpertSample> samples, const DeviceProfile& device) {
  std::vector<Equation> equations;
  for (const ExpertSample& sample : samples) {
    if (!sample.held_out) equations.push_back(equation_of(sample, device));
  }
  ASSERT(!equations.empty(), "no call was measured");
  const Eigen::VectorXd x = solve(equations);
  GemmTable table;
  table.m.assign(kRows.begin(), kRows.end());
  table.n = {1};
  table.k = {1};
  table.overhead = duration_from_seconds(x[kUnknowns - 1] / 2);
  const double fastest = *std::max_element(device.gemm.flops_per_second.begin(), device.gemm.flops_per_second.end());
  double time = 0;  // of one flop of every row, for so many rows
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    time += x[static_cast<Eigen::Index>(i)];
    table.flops_per_second.push_back(std::min(static_cast<double>(kRows[i]) / time, fastest));
  }
  return table;
}

}  // namespace moecast
