#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/parallel_layout.h"
#include "runtime/comm/groups.h"
#include "runtime/comm/launch.h"
#include "runtime/comm/pacing.h"
#include "runtime/comm/transport.h"

namespace moecast {

/// Ranks as processes that have found each other.
class ProcessWorld {
 public:
  virtual ~ProcessWorld() = default;
  [[nodiscard]] virtual std::string name() const = 0;  // "mpi", "tcp"
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Among the processes of its machine: which GPU is its own.
  [[nodiscard]] virtual int local_rank() const = 0;

  /// This rank's end of a group; `members` are its ranks, ascending, this one among them. All ranks of the world call
  /// it together, each with the members of its own group.
  [[nodiscard]] virtual Result<std::unique_ptr<Transport>> make_transport(const std::vector<Rank>& members) = 0;
  /// What a rank does that can talk to its peers no more. Where the library would keep them (MPI) it ends all processes
  /// with this code and does not return; elsewhere they find out by themselves, and this process may end in order.
  virtual void lose_peers(int exit_code) const = 0;

  /// This rank's groups of the layout, whose world size is size(). All ranks call it together.
  [[nodiscard]] Result<Groups> make_groups(const ParallelLayout& layout, const LinkOptions& options);
  /// One more group of all ranks, with its own order of calls. All ranks call it together.
  [[nodiscard]] Result<std::unique_ptr<Communicator>> make_world_group(const std::string& name,
                                                                       const LinkOptions& options);
};

/// Meets the other processes of the launch (By::Mpi, Variables or Slurm). At most one world in a process's life under
/// MPI. BadInput if the processes do not belong together, Unavailable if this build or machine cannot do it (no MPI,
/// the port is taken), RunFailed if one stays away for `timeout`.
[[nodiscard]] Result<std::unique_ptr<ProcessWorld>> meet_processes(const Launch& launch, Duration timeout);

}  // namespace moecast
