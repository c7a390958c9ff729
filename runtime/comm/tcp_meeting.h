#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/comm/launch.h"
#include "runtime/comm/socket.h"

namespace moecast {

/// What a process says first on every connection that it makes.
struct TcpGreeting {
  char magic[8] = {'m', 'o', 'e', 'c', 'a', 's', 't', '1'};
  std::int32_t rank = 0;
  std::int32_t size = 0;   // of the world
  std::int32_t port = 0;   // at which the process listens
  std::int32_t group = 0;  // number of the group that the connection is for
};
/// Reads one; false if nothing of the kind comes soon.
[[nodiscard]] bool receive_greeting(const Socket& socket, TcpGreeting& greeting);

/// Where a process listens.
struct TcpAddress {
  std::string host;
  int port = 0;
};

/// A process that has met all others.
struct TcpMeeting {
  Socket listener;
  std::vector<TcpAddress> addresses;  // by rank, as this process reaches them
};

/// Rank 0's part, or that of any other rank. All processes of one launch call it; errors as of meet_processes, with the
/// ranks that stayed away, came twice or belong to another run.
[[nodiscard]] Result<TcpMeeting> meet(const Launch& launch, Duration timeout);

}  // namespace moecast
