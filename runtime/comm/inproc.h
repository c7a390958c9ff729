#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/parallel_layout.h"
#include "runtime/comm/groups.h"
#include "runtime/communicator.h"

namespace moecast {

struct InprocOptions {
  std::optional<PacedLink> pacing = std::nullopt;  // no value: as fast as memory allows
  /// How long a rank waits for its peers, and how long a paced transfer may take.
  Duration timeout = std::chrono::seconds(60);
};

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
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_inproc_group(int size, const InprocOptions& options,
                                                                           const std::string& name = "world",
                                                                           const std::vector<Rank>& members = {});

/// All groups of a layout, for every rank (index = global rank); `layout` must be valid (ParallelLayout::check).
[[nodiscard]] std::vector<Groups> make_inproc_groups(const ParallelLayout& layout, const InprocOptions& options);

}  // namespace moecast
