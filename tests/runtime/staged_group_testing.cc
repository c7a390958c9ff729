#include "tests/runtime/staged_group_testing.h"

#include "runtime/comm/inproc.h"
#include "runtime/comm/staged.h"
#include "tests/runtime/forwarding_communicator_testing.h"

namespace moecast::testing {
namespace {

/// A staged end that keeps the host group which it borrows.
class OwningStaged final : public ForwardingCommunicator {
 public:
  OwningStaged(std::unique_ptr<Communicator> host, Backend& backend)
      : host_(std::move(host)), staged_(make_staged_communicator(*host_, backend)) {}

 private:
  Communicator& to() const override { return *staged_; }
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
