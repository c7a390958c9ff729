#include "runtime/comm/mpi.h"

#ifdef MOECAST_HAS_MPI
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#endif

namespace moecast {

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
  // The library ends the process itself when it loses a peer.
  [[nodiscard]] bool lost(Ticket) const override { return false; }
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

class MpiWorld final : public ProcessWorld {
 public:
  /// The library has started.
  explicit MpiWorld(int local_rank) : local_rank_(local_rank) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~MpiWorld() override { MPI_Finalize(); }
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  [[nodiscard]] std::string name() const override { return "mpi"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] int local_rank() const override { return local_rank_; }

  Result<std::unique_ptr<Transport>> make_transport(const std::vector<Rank>& members) override {
    MPI_Comm communicator = MPI_COMM_NULL;
    MPI_Comm_split(MPI_COMM_WORLD, members.front().value(), rank_, &communicator);
    return std::unique_ptr<Transport>(std::make_unique<MpiTransport>(communicator));
  }
  void lose_peers(int exit_code) const override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 private:
  int local_rank_ = 0;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

bool is_mpi_built() { return true; }

Result<std::unique_ptr<ProcessWorld>> start_mpi(int local_rank) {
  int threads = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads);
  if (threads < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    return Error{ErrorKind::Unavailable, "MPI", "the library does not let several threads of a process call it"};
  }
  return std::unique_ptr<ProcessWorld>(std::make_unique<MpiWorld>(local_rank));
}
#else

bool is_mpi_built() { return false; }

Result<std::unique_ptr<ProcessWorld>> start_mpi(int) {
  return Error{ErrorKind::Unavailable, "MPI",
               "this build has no MPI; install one (libopenmpi-dev, openmpi-bin) and build again"};
}
#endif

}  // namespace moecast
