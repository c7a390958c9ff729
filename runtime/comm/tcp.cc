#include "runtime/comm/tcp.h"

#include <map>

#include <fmt/format.h>

#include "runtime/comm/tcp_meeting.h"
#include "runtime/comm/tcp_transport.h"

namespace moecast {
namespace {

class TcpWorld final : public ProcessWorld {
 public:
  TcpWorld(const Launch& launch, Duration timeout, TcpMeeting meeting)
      : launch_(launch), timeout_(timeout), meeting_(std::move(meeting)) {}

  [[nodiscard]] std::string name() const override { return "tcp"; }
  [[nodiscard]] int rank() const override { return launch_.rank; }
  [[nodiscard]] int size() const override { return launch_.size; }
  [[nodiscard]] int local_rank() const override { return launch_.local_rank; }

  /// Calls the lower ranks, which are listening whatever else they do, then answers the higher ones.
  Result<std::unique_ptr<Transport>> make_transport(const std::vector<Rank>& members) override {
    const SteadyTime deadline = std::chrono::steady_clock::now() + timeout_;
    const std::int32_t group = groups_++;
    std::vector<Socket> peers(members.size());
    int own = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const int peer = members[i].value();
      if (peer == rank()) own = static_cast<int>(i);
      if (peer == rank()) continue;
      Result<Socket> socket = peer < rank() ? call(peer, group, deadline) : answer(peer, group, deadline);
      if (!socket.ok()) return socket.error();
      peers[i] = std::move(socket).value();
    }
    return make_tcp_transport(own, std::move(peers));
  }

  void lose_peers(int) const override {}

 private:
  [[nodiscard]] Error no_connection(int peer, const std::string& reason) const {
    return {ErrorKind::RunFailed, fmt::format("rank {}", rank()), fmt::format("rank {}: {}", peer, reason)};
  }

  Result<Socket> call(int peer, std::int32_t group, SteadyTime deadline) const {
    const TcpAddress& address = meeting_.addresses[static_cast<std::size_t>(peer)];
    Result<Socket> socket = connect_to(address.host, address.port, deadline);
    if (!socket.ok()) return no_connection(peer, socket.error().text());
    const TcpGreeting greeting{.rank = rank(), .size = size(), .group = group};
    if (!send_all(*socket, &greeting, sizeof greeting, deadline)) return no_connection(peer, "has gone");
    return socket;
  }

  /// Calls for later groups, or from other ranks, are kept until their turn.
  Result<Socket> answer(int peer, std::int32_t group, SteadyTime deadline) {
    for (;;) {
      if (auto found = calls_.extract({peer, group})) return std::move(found.mapped());
      std::optional<Socket> socket = accept_one(meeting_.listener, deadline);
      if (!socket) return no_connection(peer, fmt::format("waited {} in vain", pretty(timeout_)));
      TcpGreeting greeting;
      if (!receive_greeting(*socket, greeting) || greeting.size != size()) continue;
      calls_[{greeting.rank, greeting.group}] = std::move(*socket);
    }
  }

  const Launch launch_;
  const Duration timeout_;
  TcpMeeting meeting_;
  std::int32_t groups_ = 0;                                        // made so far: the same on all ranks
  std::map<std::pair<std::int32_t, std::int32_t>, Socket> calls_;  // by rank and group
};

}  // namespace

Result<std::unique_ptr<ProcessWorld>> meet_over_tcp(const Launch& launch, Duration timeout) {
  Result<TcpMeeting> meeting = meet(launch, timeout);
  if (!meeting.ok()) return meeting.error();
  return std::unique_ptr<ProcessWorld>(std::make_unique<TcpWorld>(launch, timeout, std::move(meeting).value()));
}

}  // namespace moecast
