#pragma once

#include <span>

#include "runtime/comm/nccl.h"
#include "runtime/communicator.h"

namespace moecast::testing {

/// NCCL for threads as ranks whose devices are queued backends (queued_backend_testing.h): calls join the queue of the
/// communication lane and hang there until their peers come or the communicator is aborted; it starts, and every call
/// returns, with kNcclInProgress first. Sums are added in rank order.
[[nodiscard]] const NcclFunctions& fake_nccl();

/// What all fake communicators of this program were asked for, and what they are to do.
struct FakeNcclLog {
  int started = 0, aborted = 0, destroyed = 0;
  int open = 0;  // neither destroyed nor aborted
  int sends = 0, receives = 0;
  int largest_ctas = 0;
};
[[nodiscard]] FakeNcclLog fake_nccl_log();
void reset_fake_nccl_log();
/// From now on every started communicator reports this code when it is asked (0: all is well).
void set_fake_nccl_error(int code);

/// Ends of a group over host groups of threads; each keeps its host end.
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_fake_nccl_group(
    std::span<const std::unique_ptr<Backend>> backends);
[[nodiscard]] std::unique_ptr<Communicator> make_owning_nccl(const NcclFunctions& functions,
                                                             std::unique_ptr<Communicator> host, Backend& backend,
                                                             const NcclOptions& options);

}  // namespace moecast::testing
