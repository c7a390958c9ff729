#pragma once

#include <string>
#include <string_view>

#include "base/process_environment.h"
#include "base/result.h"

namespace moecast {

/// How this process became one rank of several: what its launcher wrote into the environment.
struct Launch {
  enum class By {
    Nobody,     // the only process of its run
    Mpi,        // mpirun, or srun with an MPI plugin: the library knows the others
    Variables,  // RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: torchrun, Kubernetes, a loop in a shell
    Slurm,      // srun without MPI
  };
  By by = By::Nobody;
  int rank = 0;
  int size = 1;           // Mpi: 0 where only the library knows
  int local_rank = 0;     // among the processes of its machine; the rank where nobody says
  std::string address{};  // Variables and Slurm: where rank 0 waits for the others
  int port = 0;
};

/// The first of these that the environment has: RANK and WORLD_SIZE (above one), an MPI launcher's variables, those of
/// a Slurm step of several tasks (its first host is the address; MASTER_PORT, or a port that follows from job and
/// step). An MPI launcher is passed over in a Slurm step if `has_mpi` is false. Under torchrun, which listens at
/// MASTER_PORT itself, the port is the next one. BadInput, with every problem, for variables that are missing, no
/// numbers, or disagree.
[[nodiscard]] Result<Launch> read_launch(const EnvironmentLookup& environment, bool has_mpi);

/// "node01" of "node[01-04,7],other": the first host of Slurm's short form.
[[nodiscard]] std::string first_slurm_host(std::string_view list);

}  // namespace moecast
