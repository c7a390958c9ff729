#pragma once

#include <memory>
#include <vector>

#include "runtime/comm/socket.h"
#include "runtime/comm/transport.h"

namespace moecast {

/// The ranks of one group, a connection for each pair. Every message goes as a frame: its channel and length, then its
/// bytes. Bytes move whenever a ticket is asked for; small messages are sent at once. What arrives before its receive
/// has been started is kept. `peers[r]` is connected to rank r; that of `rank` itself is closed.
[[nodiscard]] std::unique_ptr<Transport> make_tcp_transport(int rank, std::vector<Socket> peers);

}  // namespace moecast
