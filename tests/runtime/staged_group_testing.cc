#include "tests/runtime/staged_group_testing.h"

#include "runtime/comm/inproc.h"
#include "runtime/comm/staged.h"

namespace moecast::testing {
namespace {

/// A staged end that keeps the host group which it borrows.
class OwningStaged final : public Communicator {
 public:
  OwningStaged(std::unique_ptr<Communicator> host, Backend& backend)
      : host_(std::move(host)), staged_(make_staged_communicator(*host_, backend)) {}
  std::string name() const override { return staged_->name(); }
  int rank() const override { return staged_->rank(); }
  int size() const override { return staged_->size(); }
  Status all_to_all(Tensor send, std::span<const Segment> sends, Tensor receive,
                    std::span<const Segment> receives) override {
    return staged_->all_to_all(send, sends, receive, receives);
  }
  Status all_reduce(Tensor buffer) override { return staged_->all_reduce(buffer); }
  Status reduce_scatter(Tensor buffer, Tensor shard) override { return staged_->reduce_scatter(buffer, shard); }
  Status all_gather(Tensor shard, Tensor buffer) override { return staged_->all_gather(shard, buffer); }
  Status broadcast(Tensor buffer, int root) override { return staged_->broadcast(buffer, root); }
  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> values) override {
    return staged_->exchange(values);
  }
  Status barrier() override { return staged_->barrier(); }
  void abort(const Error& reason) override { staged_->abort(reason); }

 private:
  std::unique_ptr<Communicator> host_;
  std::unique_ptr<Communicator> staged_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_staged_group(std::span<const std::unique_ptr<Backend>> backends) {
  std::vector<std::unique_ptr<Communicator>> ends;
  for (auto& host : make_inproc_group(static_cast<int>(backends.size()), {})) {
    Backend& backend = *backends[static_cast<std::size_t>(host->rank())];
    ends.push_back(std::make_unique<OwningStaged>(std::move(host), backend));
  }
  return ends;
}

}  // namespace moecast::testing
