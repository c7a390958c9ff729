#pragma once

#include "runtime/comm/mpi.h"

namespace moecast::testing {

/// The MPI library of a test program, from its start to its end. Link it into programs that mpirun starts only.
[[nodiscard]] const MpiWorld& mpi_world();

}  // namespace moecast::testing
