#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "runtime/backend.h"
#include "runtime/comm/groups.h"
#include "runtime/comm/nccl_functions.h"
#include "runtime/communicator.h"

namespace moecast {

struct NcclOptions {
  /// How long the ranks may take to meet in NCCL, and one call on the device after the one before it.
  Duration timeout = std::chrono::seconds(60);
  int max_ctas = 0;  // see NcclFunctions::init
};

/// A group of GPUs, one process each. Calls are queued on Lane::Comm: rows of an all-to-all as grouped sends and
/// receives (those to oneself are copied on the device, empty ones are left out on both sides), sums in NCCL's own
/// order, which is the same on all ranks. NCCL starts at the first call.
///
/// `host` is the group of the same ranks in host memory: through it go the unique id, `exchange`, `barrier`, and the
/// news of a failure. While calls are under way a thread looks after them: when NCCL reports an error, a peer has given
/// up or is gone, or a call takes longer than the timeout, the communicator is aborted, so that the device does not
/// wait for ever; `check`, after the lane has been synchronized, tells. Then the group is closed; a new one is made
/// over a new host group. Arguments are borrowed. `name` is the group's, for messages.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(const NcclFunctions& functions, Communicator& host,
                                                                   Backend& backend, const NcclOptions& options,
                                                                   const std::string& name);

/// All groups of a rank.
[[nodiscard]] Groups make_nccl_groups(const NcclFunctions& functions, const Groups& host, Backend& backend,
                                      const NcclOptions& options);

}  // namespace moecast
