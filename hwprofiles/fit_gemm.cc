#include <algorithm>
#include <array>
#include <cmath>

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include "hwprofiles/fit.h"
#include "hwprofiles/interpolation.h"

namespace moecast {
namespace {

constexpr double kSmoothing = 1e-3;  // lambda in fit.h

/// One product: sizes and seconds without the call's overhead.
struct Product {
  double m, n, k, seconds;
};

struct Weight {
  Eigen::Index node;
  double value;
};

class RateGrid {
 public:
  explicit RateGrid(const GemmAxes& axes)
      : axes_{&axes.m, &axes.n, &axes.k},
        normal_(Eigen::MatrixXd::Zero(node_count(), node_count())),
        right_(Eigen::VectorXd::Zero(node_count())) {
    for (Eigen::Index node = 0; node < node_count(); ++node) tie_to_neighbours(node);
  }

  void add(const Product& product) {
    const std::vector<Weight> weights = weights_at(product);
    const double rate = std::log(2 * product.m * product.n * product.k / product.seconds);
    for (const Weight& a : weights) {
      right_(a.node) += a.value * rate;
      for (const Weight& b : weights) normal_(a.node, b.node) += a.value * b.value;
    }
  }

  [[nodiscard]] std::vector<double> rates() const {
    const Eigen::VectorXd solution = normal_.ldlt().solve(right_);
    std::vector<double> rates;
    for (const double log_rate : solution) rates.push_back(std::exp(log_rate));
    return rates;
  }

 private:
  [[nodiscard]] Eigen::Index size(std::size_t axis) const { return static_cast<Eigen::Index>(axes_[axis]->size()); }
  [[nodiscard]] Eigen::Index node_count() const { return size(0) * size(1) * size(2); }
  [[nodiscard]] Eigen::Index stride(std::size_t axis) const {
    return axis == 0 ? size(1) * size(2) : axis == 1 ? size(2) : 1;
  }

  /// Trilinear in log m, log n, log k; clamped at the edges like GemmTable::rate.
  [[nodiscard]] std::vector<Weight> weights_at(const Product& product) const {
    const std::array<double, 3> sizes = {product.m, product.n, product.k};
    std::vector<Weight> weights = {{0, 1}};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const GridPlace place = place_in_log_grid(*axes_[axis], sizes[axis]);
      std::vector<Weight> next;
      for (const Weight& weight : weights) {
        const Eigen::Index low = weight.node + static_cast<Eigen::Index>(place.low) * stride(axis);
        next.push_back({low, weight.value * (1 - place.fraction)});
        if (place.fraction > 0) next.push_back({low + stride(axis), weight.value * place.fraction});
      }
      weights = std::move(next);
    }
    return weights;
  }

  void tie_to_neighbours(Eigen::Index node) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const Eigen::Index index = node / stride(axis) % size(axis);
      if (index + 1 == size(axis)) continue;
      const auto& points = *axes_[axis];
      const auto at = static_cast<std::size_t>(index);
      const double distance = std::log(static_cast<double>(points[at + 1]) / static_cast<double>(points[at]));
      const double tie = kSmoothing / (distance * distance);
      const Eigen::Index other = node + stride(axis);
      normal_(node, node) += tie;
      normal_(other, other) += tie;
      normal_(node, other) -= tie;
      normal_(other, node) -= tie;
    }
  }

  std::array<const std::vector<std::int64_t>*, 3> axes_;
  Eigen::MatrixXd normal_;
  Eigen::VectorXd right_;
};

GemmTable table_of(const GemmAxes& axes, const std::vector<Product>& products, double overhead) {
  RateGrid grid(axes);
  for (const Product& product : products) grid.add(product);
  return {axes.m, axes.n, axes.k, grid.rates(), duration_from_seconds(overhead)};
}

bool has_work(double m, std::int64_t n, std::int64_t k) { return m > 0 && n > 0 && k > 0; }

}  // namespace

GemmTable fit_gemm(std::span<const KernelSample> samples, const GemmAxes& axes) {
  std::vector<Product> products;
  double shortest = INFINITY;
  for (const KernelSample& sample : samples) {
    const auto* work = std::get_if<GemmWork>(&sample.work);
    if (work == nullptr || sample.held_out || !has_work(static_cast<double>(work->m), work->n, work->k)) continue;
    const double time = seconds(sample.time);
    products.push_back(
        {static_cast<double>(work->m), static_cast<double>(work->n), static_cast<double>(work->k), time});
    shortest = std::min(shortest, time);
  }
  ASSERT(!products.empty(), "no product was measured");
  for (Product& product : products) product.seconds -= shortest / 2;
  return table_of(axes, products, shortest / 2);
}

GemmTable fit_grouped_gemm(std::span<const KernelSample> samples, const GemmAxes& axes) {
  std::vector<Product> products;
  std::vector<double> groups;
  double shortest = INFINITY;
  for (const KernelSample& sample : samples) {
    const auto* work = std::get_if<GroupedGemmWork>(&sample.work);
    if (work == nullptr || sample.held_out || work->groups <= 0 || !has_work(work->rows, work->n, work->k)) continue;
    products.push_back({work->rows, static_cast<double>(work->n), static_cast<double>(work->k), seconds(sample.time)});
    groups.push_back(static_cast<double>(work->groups));
    shortest = std::min(shortest, seconds(sample.time) / groups.back());
  }
  ASSERT(!products.empty(), "no grouped product was measured");
  for (std::size_t i = 0; i < products.size(); ++i) {
    products[i].seconds = (products[i].seconds - shortest / 2) / groups[i];
  }
  return table_of(axes, products, shortest / 2);
}

}  // namespace moecast
