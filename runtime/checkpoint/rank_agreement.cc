#include "runtime/checkpoint/rank_agreement.h"

#include <algorithm>
#include <limits>

namespace moecast {

Result<std::vector<std::int64_t>> RankAgreement::all(std::int64_t mine) const {
  if (communicator_ == nullptr) return std::vector{mine};
  return communicator_->exchange(std::vector(static_cast<std::size_t>(size()), mine));
}

Result<std::int64_t> RankAgreement::smallest(std::int64_t mine) const {
  const Result<std::vector<std::int64_t>> values = all(mine);
  if (!values.ok()) return values.error();
  return std::ranges::min(values.value());
}

Result<std::int64_t> RankAgreement::largest(std::int64_t mine) const {
  const Result<std::vector<std::int64_t>> values = all(mine);
  if (!values.ok()) return values.error();
  return std::ranges::max(values.value());
}

/// Each rank reduces one of `size` positions at a time and tells the others: two exchanges for `size` values.
Result<std::vector<std::int64_t>> RankAgreement::smallest(const std::vector<std::int64_t>& mine) const {
  if (communicator_ == nullptr) return mine;
  const std::size_t ranks = static_cast<std::size_t>(size());
  std::vector<std::int64_t> out;
  for (std::size_t begin = 0; begin < mine.size(); begin += ranks) {
    std::vector<std::int64_t> row(ranks, std::numeric_limits<std::int64_t>::max());
    for (std::size_t i = 0; i < ranks && begin + i < mine.size(); ++i) row[i] = mine[begin + i];
    const Result<std::vector<std::int64_t>> column = communicator_->exchange(row);
    if (!column.ok()) return column.error();
    const Result<std::vector<std::int64_t>> reduced = all(std::ranges::min(column.value()));
    if (!reduced.ok()) return reduced.error();
    for (std::size_t i = 0; i < ranks && begin + i < mine.size(); ++i) out.push_back(reduced.value()[i]);
  }
  return out;
}

}  // namespace moecast
