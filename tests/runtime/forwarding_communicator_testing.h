#pragma once

#include "runtime/communicator.h"

namespace moecast::testing {

/// Hands every call on to another communicator: for ends that keep what they borrow.
class ForwardingCommunicator : public Communicator {
 public:
  std::string name() const override { return to().name(); }
  int rank() const override { return to().rank(); }
  int size() const override { return to().size(); }
  Status all_to_all(Tensor send, std::span<const Segment> sends, Tensor receive,
                    std::span<const Segment> receives) override {
    return to().all_to_all(send, sends, receive, receives);
  }
  Status all_reduce(Tensor buffer) override { return to().all_reduce(buffer); }
  Status reduce_scatter(Tensor buffer, Tensor shard) override { return to().reduce_scatter(buffer, shard); }
  Status all_gather(Tensor shard, Tensor buffer) override { return to().all_gather(shard, buffer); }
  Status broadcast(Tensor buffer, int root) override { return to().broadcast(buffer, root); }
  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> values) override {
    return to().exchange(values);
  }
  Status barrier() override { return to().barrier(); }
  Status check() override { return to().check(); }
  void abort(const Error& reason) override { to().abort(reason); }

 private:
  [[nodiscard]] virtual Communicator& to() const = 0;
};

}  // namespace moecast::testing
