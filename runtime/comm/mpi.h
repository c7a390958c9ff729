#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "models/parallel_layout.h"
#include "runtime/comm/groups.h"
#include "runtime/comm/pacing.h"
#include "runtime/comm/transport.h"

namespace moecast {

/// Processes as ranks, started by mpirun, srun or another launcher that the MPI library knows. At most one object in a
/// process's life. Built without MPI, `start` says so.
class MpiWorld {
 public:
  [[nodiscard]] static bool is_built();
  /// Was this process started by such a launcher? Looks at the environment only.
  [[nodiscard]] static bool is_launched();
  /// The rank that the launcher gave this process; 0 without one.
  [[nodiscard]] static int launched_rank();
  /// Starts the library. Unavailable if this build has none or if it does not let several threads call it.
  [[nodiscard]] static Result<std::unique_ptr<MpiWorld>> start();
  /// Ends the library; all ranks together.
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  [[nodiscard]] int rank() const;
  [[nodiscard]] int size() const;

  /// This rank's groups of the layout, whose world size is size(). All ranks call it together.
  [[nodiscard]] Groups make_groups(const ParallelLayout& layout, const LinkOptions& options) const;
  /// One more group of all ranks, with its own order of calls. All ranks call it together.
  [[nodiscard]] std::unique_ptr<Communicator> make_world_group(const std::string& name,
                                                               const LinkOptions& options) const;
  /// Messages between all ranks, apart from every group. All ranks call it together.
  [[nodiscard]] std::unique_ptr<Transport> make_world_transport() const;
  /// Ends all processes of the run at once: for a rank that cannot go on while its peers may wait inside the library.
  [[noreturn]] void abort(int exit_code) const;

 private:
  MpiWorld() = default;
};

}  // namespace moecast
