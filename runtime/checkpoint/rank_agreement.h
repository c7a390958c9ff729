#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "runtime/communicator.h"

namespace moecast {

/// Small agreements among ranks, each of which calls the same functions in the same order. Without a communicator
/// (nullptr) there is one rank.
class RankAgreement {
 public:
  explicit RankAgreement(Communicator* communicator) : communicator_(communicator) {}

  [[nodiscard]] int rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
  [[nodiscard]] int size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }

  /// The value of every rank.
  [[nodiscard]] Result<std::vector<std::int64_t>> all(std::int64_t mine) const;
  [[nodiscard]] Result<std::int64_t> smallest(std::int64_t mine) const;
  [[nodiscard]] Result<std::int64_t> largest(std::int64_t mine) const;
  /// For each position the smallest over the ranks; all ranks give equally many values.
  [[nodiscard]] Result<std::vector<std::int64_t>> smallest(const std::vector<std::int64_t>& mine) const;

  void abort(const Error& reason) const {
    if (communicator_ != nullptr) communicator_->abort(reason);
  }

 private:
  Communicator* communicator_;
};

}  // namespace moecast
