#include "runtime/comm/mpi.h"

#include <cstdlib>

#include "runtime/comm/message.h"

#ifdef MOECAST_HAS_MPI
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#endif

namespace moecast {

namespace {

/// Set by Open MPI, by launchers that speak PMIx (srun among them), by MPICH.
const char* rank_of_launcher() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* rank = std::getenv(variable)) return rank;
  }
  return nullptr;
}

}  // namespace

bool MpiWorld::is_launched() { return rank_of_launcher() != nullptr; }

int MpiWorld::launched_rank() { return is_launched() ? std::atoi(rank_of_launcher()) : 0; }

#ifdef MOECAST_HAS_MPI
namespace {

int tag_of(Transport::Channel channel) { return static_cast<int>(channel); }

/// One group's end of the MPI library.
class MpiTransport final : public Transport {
 public:
  /// Takes the communicator over.
  explicit MpiTransport(MPI_Comm group) : group_(group) {
    MPI_Comm_rank(group_, &rank_);
    MPI_Comm_size(group_, &size_);
  }
  // The communicator is left to MPI_Finalize: to free it is a collective call, and peers may have failed.
  ~MpiTransport() override = default;
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  [[nodiscard]] std::string name() const override { return "mpi"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }

  Ticket send(int peer, Channel channel, const void* data, std::size_t bytes) override {
    const Ticket ticket = free_ticket();
    MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag_of(channel), group_, &requests_[ticket]);
    return ticket;
  }
  Ticket receive(int peer, Channel channel, void* data, std::size_t bytes) override {
    const Ticket ticket = free_ticket();
    MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag_of(channel), group_, &requests_[ticket]);
    return ticket;
  }
  bool done(Ticket ticket) override {
    int ended = 0;
    MPI_Test(&requests_[ticket], &ended, MPI_STATUS_IGNORE);
    if (ended != 0) free_.push_back(ticket);
    return ended != 0;
  }
  void cancel(Ticket ticket) override {
    MPI_Cancel(&requests_[ticket]);
    MPI_Request_free(&requests_[ticket]);
    free_.push_back(ticket);
  }

 private:
  Ticket free_ticket() {
    if (free_.empty()) {
      requests_.push_back(MPI_REQUEST_NULL);
      return requests_.size() - 1;
    }
    const Ticket ticket = free_.back();
    free_.pop_back();
    return ticket;
  }

  MPI_Comm group_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<MPI_Request> requests_;
  std::vector<Ticket> free_;
};

}  // namespace

bool MpiWorld::is_built() { return true; }

Result<std::unique_ptr<MpiWorld>> MpiWorld::start() {
  int threads = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads);
  if (threads < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    return Error{ErrorKind::Unavailable, "MPI", "the library does not let several threads of a process call it"};
  }
  return std::unique_ptr<MpiWorld>(new MpiWorld());
}

MpiWorld::~MpiWorld() { MPI_Finalize(); }

int MpiWorld::rank() const {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int MpiWorld::size() const {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

Groups MpiWorld::make_groups(const ParallelLayout& layout, const LinkOptions& options) const {
  ASSERT(layout.world_size() == size(), "{} ranks in {} processes", layout.world_size(), size());
  const Rank own(rank());
  Groups groups;
  for (const auto& [group, name] : kGroupNames) {
    const std::vector<Rank> members = layout.members(group, own);
    MPI_Comm communicator = MPI_COMM_NULL;
    MPI_Comm_split(MPI_COMM_WORLD, members.front().value(), own.value(), &communicator);
    groups.set(group, make_message_communicator(std::make_unique<MpiTransport>(communicator), options,
                                                std::string(name), members));
  }
  return groups;
}

std::unique_ptr<Communicator> MpiWorld::make_world_group(const std::string& name, const LinkOptions& options) const {
  MPI_Comm communicator = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &communicator);
  std::vector<Rank> members;
  for (int rank = 0; rank < size(); ++rank) members.emplace_back(rank);
  return make_message_communicator(std::make_unique<MpiTransport>(communicator), options, name, members);
}

std::unique_ptr<Transport> MpiWorld::make_world_transport() const {
  MPI_Comm communicator = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &communicator);
  return std::make_unique<MpiTransport>(communicator);
}

void MpiWorld::abort(int exit_code) const {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();  // not reached
}
#else

bool MpiWorld::is_built() { return false; }

Result<std::unique_ptr<MpiWorld>> MpiWorld::start() {
  return Error{ErrorKind::Unavailable, "MPI",
               "this build has no MPI; install one (libopenmpi-dev, openmpi-bin) and build again"};
}

// No object is ever made.
MpiWorld::~MpiWorld() = default;
int MpiWorld::rank() const { return 0; }
int MpiWorld::size() const { return 1; }
Groups MpiWorld::make_groups(const ParallelLayout&, const LinkOptions&) const { return {}; }
std::unique_ptr<Communicator> MpiWorld::make_world_group(const std::string&, const LinkOptions&) const {
  return nullptr;
}
std::unique_ptr<Transport> MpiWorld::make_world_transport() const { return nullptr; }
void MpiWorld::abort(int) const { std::abort(); }
#endif

}  // namespace moecast
