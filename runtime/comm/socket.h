#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "runtime/comm/pacing.h"

namespace moecast {

/// An open TCP socket; closes with the object. Move-only.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    if (this != &other) {
      close();
      descriptor_ = std::exchange(other.descriptor_, -1);
    }
    return *this;
  }

  [[nodiscard]] bool is_open() const { return descriptor_ >= 0; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  void close();

 private:
  int descriptor_ = -1;
};

/// Of this machine alone: "localhost", "127.0.0.1", "::1".
[[nodiscard]] bool is_loopback(const std::string& host);

/// Listens at every address of this machine, or at its loopback alone; port 0: any free one. Unavailable if the port is
/// taken.
[[nodiscard]] Result<Socket> listen_at(bool loopback_only, int port);
[[nodiscard]] int port_of(const Socket& socket);

/// Connects to a host by name or number, and tries again until somebody listens there. RunFailed with the last reason
/// at the deadline; BadInput for a name that nobody knows by then.
[[nodiscard]] Result<Socket> connect_to(const std::string& host, int port, SteadyTime deadline);
/// The next connection, if one comes before the deadline.
[[nodiscard]] std::optional<Socket> accept_one(const Socket& listener, SteadyTime deadline);

/// The address at the other end, and at this one, in numbers.
[[nodiscard]] std::string peer_address(const Socket& socket);
[[nodiscard]] std::string own_address(const Socket& socket);

/// All bytes, on a socket that does not block; false if the connection ends or the deadline comes before.
[[nodiscard]] bool send_all(const Socket& socket, const void* data, std::size_t bytes, SteadyTime deadline);
[[nodiscard]] bool receive_all(const Socket& socket, void* data, std::size_t bytes, SteadyTime deadline);

}  // namespace moecast
