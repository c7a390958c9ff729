#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "runtime/comm/pacing.h"
#include "runtime/comm/transport.h"
#include "runtime/communicator.h"

namespace moecast {

/// A group of ranks in different processes, data in host memory. Each call begins with a small header from every rank
/// to every other: it names the call and its sizes, so that ranks which disagree or stay away are reported by number,
/// and the link of a paced run starts when all have come, as in one process. Then the data travels, straight between
/// the callers' buffers. Sums are added in rank order: the same bits as between threads.
///
/// A rank that waits asks the transport, then sleeps for moments: whoever computes keeps the core. One thread at a time
/// makes calls; `abort` may come from any. `members` are the global ranks of the group, for messages.
[[nodiscard]] std::unique_ptr<Communicator> make_message_communicator(std::unique_ptr<Transport> transport,
                                                                      const LinkOptions& options,
                                                                      const std::string& name,
                                                                      const std::vector<Rank>& members);

}  // namespace moecast
