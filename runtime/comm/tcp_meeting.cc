#include "runtime/comm/tcp_meeting.h"

#include <cstring>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace moecast {
namespace {

using std::chrono::steady_clock;

/// Who connects speaks at once; who does not is a stranger.
constexpr std::chrono::seconds kGreetingTime{2};
/// Rank 0's answer may come this much after its own timeout.
constexpr std::chrono::seconds kAnswerTime{5};
constexpr std::uint32_t kMostText = 64U << 20U;

std::string place_of(const Launch& launch) { return fmt::format("{}:{}", launch.address, launch.port); }

/// Text of any length; false as of send_all.
bool send_text(const Socket& socket, std::string_view text, SteadyTime deadline) {
  const auto size = static_cast<std::uint32_t>(text.size());
  return send_all(socket, &size, sizeof size, deadline) && send_all(socket, text.data(), text.size(), deadline);
}

std::optional<std::string> receive_text(const Socket& socket, SteadyTime deadline) {
  std::uint32_t size = 0;
  if (!receive_all(socket, &size, sizeof size, deadline) || size > kMostText) return std::nullopt;
  std::string text(size, '\0');
  if (!receive_all(socket, text.data(), size, deadline)) return std::nullopt;
  return text;
}

/// "host port" lines, by rank. A process on rank 0's machine seems to be at the loopback: whoever reaches rank 0
/// through an address reaches its neighbours through it as well.
std::string address_table(const std::vector<TcpAddress>& seen_by_first, const std::string& own_address) {
  std::string text;
  for (const TcpAddress& each : seen_by_first) {
    text += fmt::format("{} {}\n", is_loopback(each.host) ? own_address : each.host, each.port);
  }
  return text;
}

std::vector<TcpAddress> addresses_of(std::string_view table) {
  std::vector<TcpAddress> addresses;
  while (!table.empty()) {
    const std::string_view line = table.substr(0, table.find('\n'));
    const std::size_t gap = line.find(' ');
    addresses.push_back({std::string(line.substr(0, gap)), std::atoi(std::string(line.substr(gap + 1)).c_str())});
    table.remove_prefix(line.size() + 1);
  }
  return addresses;
}

/// Rank 0 gathers the others.
class Gathering {
 public:
  Gathering(const Launch& launch, Duration timeout)
      : launch_(launch), timeout_(timeout), members_(static_cast<std::size_t>(launch.size)) {}

  Result<TcpMeeting> run() {
    Result<Socket> listener = listen_at(is_loopback(launch_.address), launch_.port);
    if (!listener.ok()) return port_taken(listener.error());
    const Status complete = gather(*listener);
    answer_all(complete);
    if (!complete.ok()) return complete.error();
    std::vector<TcpAddress> addresses{{launch_.address, launch_.port}};
    for (std::size_t rank = 1; rank < members_.size(); ++rank) addresses.push_back(members_[rank].address);
    return TcpMeeting{std::move(listener).value(), std::move(addresses)};
  }

 private:
  struct Member {
    Socket socket;
    TcpAddress address;  // as rank 0 sees it
  };

  [[nodiscard]] Error port_taken(Error error) const {
    error.place = fmt::format("rank 0, port {}", launch_.port);
    error.message += launch_.by == Launch::By::Slurm ? "; set MASTER_PORT to another one on all ranks"
                                                     : "; give all ranks another MASTER_PORT";
    return error;
  }

  Status gather(const Socket& listener) {
    const SteadyTime deadline = steady_clock::now() + timeout_;
    std::size_t missing = members_.size() - 1;
    while (missing > 0) {
      std::optional<Socket> socket = accept_one(listener, deadline);
      if (!socket) return stayed_away();
      TcpGreeting greeting;
      if (!receive_greeting(*socket, greeting)) continue;
      Status fits = check(greeting);
      if (!fits.ok()) {
        answer(*socket, fits);
        return fits;
      }
      Member& member = members_[static_cast<std::size_t>(greeting.rank)];
      member.address = {peer_address(*socket), greeting.port};
      member.socket = std::move(*socket);
      --missing;
    }
    return {};
  }

  [[nodiscard]] Status check(const TcpGreeting& greeting) const {
    const auto bad = [&](std::string message) {
      return Error{ErrorKind::BadInput, place_of(launch_), std::move(message)};
    };
    if (greeting.size != launch_.size) {
      return bad(
          fmt::format("rank {} was started as one of {} processes, rank 0 as one of {}: all need the same number",
                      greeting.rank, greeting.size, launch_.size));
    }
    if (greeting.rank < 1 || greeting.rank >= launch_.size ||
        members_[static_cast<std::size_t>(greeting.rank)].socket.is_open()) {
      return bad(fmt::format("two processes say that they are rank {}", greeting.rank));
    }
    return {};
  }

  [[nodiscard]] Status stayed_away() const {
    std::vector<std::size_t> missing;
    for (std::size_t rank = 1; rank < members_.size(); ++rank) {
      if (!members_[rank].socket.is_open()) missing.push_back(rank);
    }
    return Error{ErrorKind::RunFailed, place_of(launch_),
                 fmt::format("rank {} stayed away: rank 0 waited {} for {} processes", fmt::join(missing, ", "),
                             pretty(timeout_), launch_.size)};
  }

  void answer_all(const Status& status) const {
    for (const Member& member : members_) {
      if (member.socket.is_open()) answer(member.socket, status);
    }
  }

  /// The table, or what is wrong with the run. A process that does not listen any more will be missed later.
  void answer(const Socket& socket, const Status& status) const {
    const SteadyTime deadline = steady_clock::now() + kAnswerTime;
    const auto kind = static_cast<std::int32_t>(status.ok() ? -1 : static_cast<int>(status.error().kind));
    std::vector<TcpAddress> addresses{{own_address(socket), launch_.port}};
    for (std::size_t rank = 1; rank < members_.size(); ++rank) addresses.push_back(members_[rank].address);
    const std::string text = status.ok() ? address_table(addresses, own_address(socket)) : status.error().message;
    (void)(send_all(socket, &kind, sizeof kind, deadline) && send_text(socket, text, deadline));
  }

  const Launch& launch_;
  const Duration timeout_;
  std::vector<Member> members_;  // by rank; that of rank 0 is empty
};

/// Any other rank calls rank 0.
Result<TcpMeeting> join(const Launch& launch, Duration timeout) {
  const SteadyTime deadline = steady_clock::now() + timeout;
  Result<Socket> first = connect_to(launch.address, launch.port, deadline);
  if (!first.ok()) {
    Error error = first.error();
    error.message =
        fmt::format("rank {} waited {} in vain for rank 0: {}", launch.rank, pretty(timeout), error.message);
    return error;
  }
  Result<Socket> listener = listen_at(is_loopback(launch.address), 0);
  if (!listener.ok()) return listener.error();
  const TcpGreeting greeting{.rank = launch.rank, .size = launch.size, .port = port_of(*listener)};
  const auto gone = [&] {
    return Error{ErrorKind::RunFailed, place_of(launch),
                 "rank 0 does not answer: it has ended, or another program listens there"};
  };
  const SteadyTime answered = steady_clock::now() + timeout + kAnswerTime;
  std::int32_t kind = 0;
  if (!send_all(*first, &greeting, sizeof greeting, answered)) return gone();
  if (!receive_all(*first, &kind, sizeof kind, answered)) return gone();
  const std::optional<std::string> text = receive_text(*first, answered);
  if (!text) return gone();
  if (kind >= 0) return Error{static_cast<ErrorKind>(kind), place_of(launch), *text};
  return TcpMeeting{std::move(listener).value(), addresses_of(*text)};
}

}  // namespace

bool receive_greeting(const Socket& socket, TcpGreeting& greeting) {
  const TcpGreeting expected;
  return receive_all(socket, &greeting, sizeof greeting, steady_clock::now() + kGreetingTime) &&
         std::memcmp(greeting.magic, expected.magic, sizeof expected.magic) == 0;
}

Result<TcpMeeting> meet(const Launch& launch, Duration timeout) {
  return launch.rank == 0 ? Gathering(launch, timeout).run() : join(launch, timeout);
}

}  // namespace moecast
