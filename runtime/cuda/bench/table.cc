#include "runtime/cuda/bench/table.h"

#include <fmt/core.h>

namespace moecast::cuda {

void Table::heading(const std::string& text) {
  fmt::print("\n{}\n{:<26} {:<34} {:>10} {:>18} {:>9}  {}\n", text, "operation", "shape", "time", "rate", "of limit",
             "limit");
  std::fflush(stdout);
}

void Table::add(const Row& row) {
  const double fraction = row.limit > 0 ? row.rate / row.limit : 0;
  const bool below = row.wanted > 0 && fraction < row.wanted;
  if (below) ++below_;
  const std::string rate = fmt::format("{:.4g} {}", row.rate, row.unit);
  const std::string share = row.limit > 0 ? fmt::format("{:.3f}", fraction) : "";
  const std::string limit = row.limit > 0 ? fmt::format("{} {:.4g}", row.limit_source, row.limit) : "";
  const std::string note = below ? fmt::format("  below {:.2f}", row.wanted) : "";
  fmt::print("{:<26} {:<34} {:>7.1f} us {:>18} {:>9}  {}{}\n", row.operation, row.shape, row.seconds * 1e6, rate, share,
             limit, note);
  std::fflush(stdout);
  if (json_ == nullptr) return;
  fmt::print(json_,
             "{{\"operation\": \"{}\", \"shape\": \"{}\", \"seconds\": {:.9g}, \"rate\": {:.6g}, \"unit\": \"{}\", "
             "\"limit\": {:.6g}, \"limit_source\": \"{}\", \"fraction\": {:.4g}, \"wanted\": {:.3g}}}\n",
             row.operation, row.shape, row.seconds, row.rate, row.unit, row.limit, row.limit_source, fraction,
             row.wanted);
  std::fflush(json_);
}

}  // namespace moecast::cuda
