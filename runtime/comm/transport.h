#pragma once

#include <cstddef>
#include <string>

namespace moecast {

/// Messages between processes, as much of it as MessageCommunicator needs: the ranks of one group, each with its own
/// end. Nothing waits: send and receive start and return, `done` asks. Messages of one channel from one rank to another
/// arrive in the order of their sends, and meet receives in the order in which those were started; sizes must agree.
/// One thread at a time uses an end.
class Transport {
 public:
  using Ticket = std::size_t;
  enum class Channel { Header, Data, Abort };

  virtual ~Transport() = default;
  [[nodiscard]] virtual std::string name() const = 0;  // "mpi", "tcp"
  [[nodiscard]] virtual int rank() const = 0;          // in the group
  [[nodiscard]] virtual int size() const = 0;

  /// The memory stays until the ticket is done or cancelled. Peers are other ranks than this one.
  [[nodiscard]] virtual Ticket send(int peer, Channel channel, const void* data, std::size_t bytes) = 0;
  [[nodiscard]] virtual Ticket receive(int peer, Channel channel, void* data, std::size_t bytes) = 0;
  /// Has it ended? Once true, the ticket is gone.
  [[nodiscard]] virtual bool done(Ticket ticket) = 0;
  /// It will never end: its peer is gone. (Networks that cannot know say no.)
  [[nodiscard]] virtual bool lost(Ticket ticket) const = 0;
  /// Gives up on it: the memory is not touched any more, as far as the network can promise.
  virtual void cancel(Ticket ticket) = 0;
};

}  // namespace moecast
