#include "runtime/comm/tcp_transport.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <thread>

#include "base/assert.h"

namespace moecast {
namespace {

using Channel = Transport::Channel;
using Ticket = Transport::Ticket;

constexpr std::size_t kChannels = 3;
constexpr std::size_t kSmall = 4096;                 // bytes that are copied at once, so that the sender need not wait
constexpr std::size_t kTurn = std::size_t{1} << 20;  // bytes of one peer before the others have their turn
/// To end what was begun: a peer that takes part in a failing call reads on until it has heard of the failure.
constexpr std::chrono::seconds kLastWords{2};

struct Frame {
  std::uint64_t channel = 0;
  std::uint64_t bytes = 0;
};

struct Outgoing {
  Frame frame;
  const char* data = nullptr;
  std::size_t sent = 0;  // of frame and data
  std::vector<char> copy = {};
  std::optional<Ticket> ticket = std::nullopt;  // none: nobody waits

  [[nodiscard]] std::size_t total() const { return sizeof(Frame) + frame.bytes; }
};

/// A started receive, or a message that came before its receive.
struct Incoming {
  char* data = nullptr;
  std::size_t bytes = 0;
  std::vector<char> copy = {};
  std::optional<Ticket> ticket = std::nullopt;
  bool cancelled = false;  // nobody wants what is on its way
};

/// One connection: what waits to go out, and what is on its way in.
struct Link {
  Socket socket;
  bool readable = true, writable = true;  // until the peer has gone
  std::deque<Outgoing> out;
  std::array<std::deque<Incoming>, kChannels> wanted;   // receives
  std::array<std::deque<Incoming>, kChannels> unasked;  // messages
  Frame frame;                                          // that is being read
  std::size_t frame_read = 0;                           // of the frame and its data
  Incoming target;
};

class TcpTransport final : public Transport {
 public:
  TcpTransport(int rank, std::vector<Socket> peers) : rank_(rank), links_(peers.size()) {
    for (std::size_t peer = 0; peer < peers.size(); ++peer) links_[peer].socket = std::move(peers[peer]);
  }
  ~TcpTransport() override {
    const SteadyTime deadline = std::chrono::steady_clock::now() + kLastWords;
    for (Link& link : links_) flush(link, deadline);
  }
  TcpTransport(const TcpTransport&) = delete;
  TcpTransport& operator=(const TcpTransport&) = delete;

  [[nodiscard]] std::string name() const override { return "tcp"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return static_cast<int>(links_.size()); }

  Ticket send(int peer, Channel channel, const void* data, std::size_t bytes) override {
    Link& link = link_to(peer);
    const Ticket ticket = take_ticket(peer, true);
    Outgoing message{{static_cast<std::uint64_t>(channel), bytes}, static_cast<const char*>(data)};
    if (bytes <= kSmall) {
      message.copy.assign(message.data, message.data + bytes);
      tickets_[ticket].done = true;
    } else {
      message.ticket = ticket;
    }
    link.out.push_back(std::move(message));
    write(link);
    return ticket;
  }

  Ticket receive(int peer, Channel channel, void* data, std::size_t bytes) override {
    Link& link = link_to(peer);
    const Ticket ticket = take_ticket(peer, false);
    Incoming wanted{static_cast<char*>(data), bytes, {}, ticket};
    std::deque<Incoming>& early = link.unasked[static_cast<std::size_t>(channel)];
    if (early.empty()) {
      link.wanted[static_cast<std::size_t>(channel)].push_back(std::move(wanted));
    } else {
      ASSERT(early.front().bytes == bytes, "{} bytes came, {} expected", early.front().bytes, bytes);
      if (bytes > 0) std::memcpy(data, early.front().copy.data(), bytes);
      early.pop_front();
      tickets_[ticket].done = true;
    }
    return ticket;
  }

  bool done(Ticket ticket) override {
    if (!tickets_[ticket].done) progress(link_to(tickets_[ticket].peer));
    if (!tickets_[ticket].done) return false;
    free_.push_back(ticket);
    return true;
  }

  [[nodiscard]] bool lost(Ticket ticket) const override {
    const State& state = tickets_[ticket];
    const Link& link = links_[static_cast<std::size_t>(state.peer)];
    return !state.done && !(state.sends ? link.writable : link.readable);
  }

  void cancel(Ticket ticket) override {
    const State& state = tickets_[ticket];
    if (!state.done)
      state.sends ? cancel_send(link_to(state.peer), ticket) : cancel_receive(link_to(state.peer), ticket);
    free_.push_back(ticket);
  }

 private:
  struct State {
    int peer = 0;
    bool sends = false;
    bool done = false;
  };

  Link& link_to(int peer) { return links_[static_cast<std::size_t>(peer)]; }

  Ticket take_ticket(int peer, bool sends) {
    if (free_.empty()) {
      tickets_.push_back({peer, sends, false});
      return tickets_.size() - 1;
    }
    const Ticket ticket = free_.back();
    free_.pop_back();
    tickets_[ticket] = {peer, sends, false};
    return ticket;
  }
  void end(const std::optional<Ticket>& ticket) {
    if (ticket) tickets_[*ticket].done = true;
  }

  void progress(Link& link) {
    write(link);
    read(link);
  }

  void write(Link& link) {
    std::size_t turn = 0;
    while (link.writable && !link.out.empty() && turn < kTurn) {
      Outgoing& message = link.out.front();
      const ssize_t sent = write_some(link.socket, message);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) link.writable = false;
        return;
      }
      message.sent += static_cast<std::size_t>(sent);
      turn += static_cast<std::size_t>(sent);
      if (message.sent < message.total()) continue;
      end(message.ticket);
      link.out.pop_front();
    }
  }

  static ssize_t write_some(const Socket& socket, const Outgoing& message) {
    std::array<iovec, 2> parts{};
    std::size_t count = 0;
    const auto add = [&](const void* data, std::size_t bytes) {
      if (bytes > 0) parts[count++] = {const_cast<void*>(data), bytes};
    };
    const std::size_t of_frame = std::min(message.sent, sizeof(Frame));
    const std::size_t of_data = message.sent - of_frame;
    const char* data = message.copy.empty() ? message.data : message.copy.data();
    add(reinterpret_cast<const char*>(&message.frame) + of_frame, sizeof(Frame) - of_frame);
    add(data + of_data, message.frame.bytes - of_data);
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = count;
    return sendmsg(socket.descriptor(), &header, MSG_NOSIGNAL);
  }

  void read(Link& link) {
    std::size_t turn = 0;
    while (link.readable && turn < kTurn) {
      const bool in_frame = link.frame_read < sizeof(Frame);
      const std::size_t at = in_frame ? link.frame_read : link.frame_read - sizeof(Frame);
      char* to = in_frame ? reinterpret_cast<char*>(&link.frame) + at : link.target.data + at;
      const std::size_t wanted = (in_frame ? sizeof(Frame) : link.frame.bytes) - at;
      const ssize_t received = recv(link.socket.descriptor(), to, wanted, 0);
      if (received < 0 && errno == EINTR) continue;
      if (received < 0 && errno == EAGAIN) return;
      if (received <= 0) {
        link.readable = false;
        return;
      }
      link.frame_read += static_cast<std::size_t>(received);
      turn += static_cast<std::size_t>(received);
      if (in_frame && link.frame_read == sizeof(Frame)) choose_target(link);
      if (link.frame_read >= sizeof(Frame) && link.frame_read == sizeof(Frame) + link.frame.bytes) finish_message(link);
    }
  }

  /// Where the message goes whose frame has been read.
  static void choose_target(Link& link) {
    ASSERT(link.frame.channel < kChannels, "channel {}", link.frame.channel);
    std::deque<Incoming>& wanted = link.wanted[link.frame.channel];
    if (wanted.empty()) {
      link.target = Incoming{};
      link.target.bytes = link.frame.bytes;
      link.target.copy.resize(link.frame.bytes);
      link.target.data = link.target.copy.data();
      return;
    }
    link.target = std::move(wanted.front());
    wanted.pop_front();
    ASSERT(link.target.bytes == link.frame.bytes, "{} bytes came, {} expected", link.frame.bytes, link.target.bytes);
  }

  void finish_message(Link& link) {
    Incoming message = std::move(link.target);
    const std::size_t channel = link.frame.channel;
    link.frame_read = 0;
    link.frame = Frame{};
    link.target = Incoming{};
    if (message.ticket) {
      end(message.ticket);
    } else if (!message.cancelled) {
      deliver(link, channel, std::move(message));
    }
  }

  /// A message that nobody waited for when it began to arrive.
  void deliver(Link& link, std::size_t channel, Incoming message) {
    std::deque<Incoming>& wanted = link.wanted[channel];
    if (wanted.empty()) {
      link.unasked[channel].push_back(std::move(message));
      return;
    }
    ASSERT(wanted.front().bytes == message.bytes, "{} bytes came, {} expected", message.bytes, wanted.front().bytes);
    if (message.bytes > 0) std::memcpy(wanted.front().data, message.copy.data(), message.bytes);
    end(wanted.front().ticket);
    wanted.pop_front();
  }

  void cancel_receive(Link& link, Ticket ticket) {
    for (std::deque<Incoming>& wanted : link.wanted) {
      std::erase_if(wanted, [&](const Incoming& each) { return each.ticket == ticket; });
    }
    if (link.target.ticket != ticket) return;
    // The rest of it goes where nobody looks.
    link.target.copy.resize(link.target.bytes);
    link.target.data = link.target.copy.data();
    link.target.ticket.reset();
    link.target.cancelled = true;
  }

  /// What the peer has begun to read must be sent to its end, or nothing after it could be.
  void cancel_send(Link& link, Ticket ticket) {
    std::erase_if(link.out, [&](const Outgoing& each) { return each.ticket == ticket && each.sent == 0; });
    if (link.out.empty() || link.out.front().ticket != ticket) return;
    flush(link, std::chrono::steady_clock::now() + kLastWords);
    if (!link.out.empty() && link.out.front().ticket == ticket) {
      link.writable = false;
      link.out.clear();
      shutdown(link.socket.descriptor(), SHUT_WR);
    }
  }

  void flush(Link& link, SteadyTime deadline) {
    for (write(link); link.writable && !link.out.empty(); progress(link)) {
      if (std::chrono::steady_clock::now() > deadline) return;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  int rank_;
  std::vector<Link> links_;
  std::vector<State> tickets_;
  std::vector<Ticket> free_;
};

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(int rank, std::vector<Socket> peers) {
  return std::make_unique<TcpTransport>(rank, std::move(peers));
}

}  // namespace moecast
