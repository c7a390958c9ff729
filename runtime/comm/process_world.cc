#include "runtime/comm/process_world.h"

#include <fmt/format.h>

#include "runtime/comm/message.h"
#include "runtime/comm/mpi.h"
#include "runtime/comm/tcp.h"

namespace moecast {

Result<Groups> ProcessWorld::make_groups(const ParallelLayout& layout, const LinkOptions& options) {
  ASSERT(layout.world_size() == size(), "{} ranks in {} processes", layout.world_size(), size());
  Groups groups;
  for (const auto& [group, name] : kGroupNames) {
    const std::vector<Rank> members = layout.members(group, Rank(rank()));
    Result<std::unique_ptr<Transport>> transport = make_transport(members);
    if (!transport.ok()) return transport.error();
    groups.set(group, make_message_communicator(std::move(transport).value(), options, std::string(name), members));
  }
  return groups;
}

Result<std::unique_ptr<Communicator>> ProcessWorld::make_world_group(const std::string& name,
                                                                     const LinkOptions& options) {
  std::vector<Rank> members;
  for (int each = 0; each < size(); ++each) members.emplace_back(each);
  Result<std::unique_ptr<Transport>> transport = make_transport(members);
  if (!transport.ok()) return transport.error();
  return make_message_communicator(std::move(transport).value(), options, name, members);
}

Result<std::unique_ptr<ProcessWorld>> meet_processes(const Launch& launch, Duration timeout) {
  if (launch.by != Launch::By::Mpi) return meet_over_tcp(launch, timeout);
  Result<std::unique_ptr<ProcessWorld>> world = start_mpi(launch.local_rank);
  if (!world.ok() || launch.size == 0 || (*world)->size() == launch.size) return world;
  return Error{
      ErrorKind::Unavailable, "MPI",
      fmt::format("the launcher started {} processes, the MPI library finds {}: it does not know this launcher "
                  "(srun --mpi=list; mpirun of another MPI); or set RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT",
                  launch.size, (*world)->size())};
}

}  // namespace moecast
