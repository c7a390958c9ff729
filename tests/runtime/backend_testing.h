#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backend.h"

namespace moecast::testing {

/// One implementation of Backend that runs through the contract suite (backend_contract_suite.h).
struct BackendCase {
  std::string name;                                // of the test instance: letters and digits
  std::function<std::unique_ptr<Backend>()> make;  // null result: not on this machine, the test is skipped
  DType compute = DType::F32;                      // activations and compute weights
  double tolerance = 0;                            // of results in the compute dtype, see expect_close
  double gradient_tolerance = 0;                   // of F32 or F64 results (their inputs may be BF16)
  std::vector<DType> castable;                     // dtypes that cast joins in both directions
  bool deterministic = true;                       // the same inputs give the same bits

  [[nodiscard]] DType gradient() const { return compute == DType::F64 ? DType::F64 : DType::F32; }
};

using Shape = std::vector<std::int64_t>;
using Values = std::vector<double>;
using Integers = std::vector<std::int32_t>;

/// Owns one backend and the tensors of one test. Every tensor lies between guard bytes which must be intact at the end.
/// Values go in and out as double; `read` after `upload` gives what the backend sees (BF16 rounding included).
class BackendTester {
 public:
  explicit BackendTester(const BackendCase& subject);
  ~BackendTester();
  BackendTester(const BackendTester&) = delete;
  BackendTester& operator=(const BackendTester&) = delete;

  [[nodiscard]] bool available() const { return backend_ != nullptr; }
  [[nodiscard]] Backend& backend() { return *backend_; }
  [[nodiscard]] DType compute() const { return subject_.compute; }
  [[nodiscard]] DType gradient() const { return subject_.gradient(); }
  [[nodiscard]] const BackendCase& subject() const { return subject_; }

  /// Fresh values, uniform in [low, high).
  [[nodiscard]] Tensor random(DType dtype, const Shape& shape, double low = -1, double high = 1);
  [[nodiscard]] Tensor upload(DType dtype, const Shape& shape, const Values& values);
  [[nodiscard]] Tensor upload(const Shape& shape, const Integers& values);
  /// Filled with bytes 0xFF: NaN in every floating type, -1 as integer. For outputs that must be overwritten.
  [[nodiscard]] Tensor poisoned(DType dtype, const Shape& shape);
  [[nodiscard]] Integers random_integers(std::int64_t count, std::int32_t limit);

  [[nodiscard]] Values read(Tensor tensor);
  [[nodiscard]] Integers read_integers(Tensor tensor);
  [[nodiscard]] std::vector<std::byte> read_bytes(Tensor tensor);

  /// |actual - expected| <= tolerance * (|expected| + rms(expected)) for every element; NaN fails. The tolerance is the
  /// case's, or `reference_error` if the reference itself is less exact than that.
  void expect_close(Tensor actual, const Values& expected, std::string_view what, double reference_error = 0);

 private:
  struct Allocation {
    std::unique_ptr<DeviceMemory> memory;
    std::int64_t size = 0;  // of the tensor, between the guards
  };
  Tensor allocate(DType dtype, const Shape& shape);
  void expect_guards_intact();

  BackendCase subject_;
  std::unique_ptr<Backend> backend_;
  std::vector<Allocation> allocations_;
  std::mt19937_64 generator_;
};

}  // namespace moecast::testing
