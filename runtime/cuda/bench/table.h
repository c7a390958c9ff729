#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace moecast::cuda {

/// One measurement, as a fraction of a limit that was measured in the same run.
struct Row {
  std::string operation;     // "gemm"
  std::string shape;         // "8192x8192x2048 nt"
  double seconds = 0;        // median of one call
  double rate = 0;           // achieved, in `unit`
  std::string unit;          // "TFLOP/s", "GB/s"
  double limit = 0;          // in `unit`; 0: none
  std::string limit_source;  // "copy", "best algorithm"
  double wanted = 0;         // fraction that the project asks for; 0: none
};

/// Prints every row as it comes, and a JSON line of it to `json` if that is not null.
class Table {
 public:
  explicit Table(std::FILE* json) : json_(json) {}
  void heading(const std::string& text);
  void add(const Row& row);
  /// Rows below their wanted fraction.
  [[nodiscard]] int below_count() const { return below_; }

 private:
  std::FILE* json_;
  int below_ = 0;
};

}  // namespace moecast::cuda
