#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "models/parallel_layout.h"
#include "runtime/comm/groups.h"
#include "runtime/comm/pacing.h"
#include "runtime/communicator.h"

namespace moecast {

/// Threads of one process as ranks, data in host memory. A call meets its peers, each rank copies what it receives
/// straight from the senders' buffers (sums are added in rank order), and nobody leaves before all have finished
/// reading.
///
/// Pacing: with all ranks present at t, everybody leaves at t + latency + n / bandwidth or later, n being the most
/// bytes that leave or reach one rank: an all-to-all's rows for others; 2 (size-1)/size of an all-reduce's buffer,
/// (size-1)/size of a reduce-scatter's or all-gather's, the whole of a broadcast's (ring algorithms); 8 (size-1) bytes
/// of an exchange. A barrier and a group of one rank are not paced. The thread sleeps, and spins only at the very end.
///
/// Safe after errors: a rank that gets an error may free its buffers, no peer still reads them. One communicator is
/// used by one thread at a time; `abort` may come from any.
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_inproc_group(int size, const LinkOptions& options,
                                                                           const std::string& name = "world",
                                                                           const std::vector<Rank>& members = {});

/// All groups of a layout, for every rank (index = global rank); `layout` must be valid (ParallelLayout::check).
[[nodiscard]] std::vector<Groups> make_inproc_groups(const ParallelLayout& layout, const LinkOptions& options);

}  // namespace moecast
