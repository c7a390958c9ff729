#pragma once

#include <memory>

#include "runtime/comm/process_world.h"

namespace moecast {

/// Was moecast built with an MPI library?
[[nodiscard]] bool is_mpi_built();

/// Processes that mpirun, srun or another launcher started whom the MPI library knows. The library ends with the
/// object, on all ranks together. Unavailable if this build has none or if it does not let several threads call it.
[[nodiscard]] Result<std::unique_ptr<ProcessWorld>> start_mpi(int local_rank);

}  // namespace moecast
