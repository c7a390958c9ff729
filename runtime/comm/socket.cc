#include "runtime/comm/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include <fmt/format.h>

namespace moecast {
namespace {

constexpr std::chrono::milliseconds kRetry{20};
constexpr int kBacklog = 4096;  // every rank may call before the first is answered

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

/// The addresses of a host, or why there are none.
std::pair<AddressList, int> resolve(const char* host, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host, fmt::format("{}", port).c_str(), &hints, &found);
  return {AddressList(code == 0 ? found : nullptr, &freeaddrinfo), code};
}

/// Small messages go at once, and nothing on this socket blocks from now on.
void set_up(const Socket& socket) {
  const int on = 1;
  setsockopt(socket.descriptor(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(socket.descriptor(), F_SETFL, fcntl(socket.descriptor(), F_GETFL) | O_NONBLOCK);
}

Socket open_for(const addrinfo& address) {
  return Socket(socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol));
}

/// Waits until the socket is ready for `events`; false at the deadline.
bool wait_for(const Socket& socket, short events, SteadyTime deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() < 0) return false;
    pollfd entry{socket.descriptor(), events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 1000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

/// 0, or the reason why this address does not answer.
int try_connect(const Socket& socket, const addrinfo& address, SteadyTime deadline) {
  if (!socket.is_open()) return errno;
  set_up(socket);
  if (connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_for(socket, POLLOUT, deadline)) return ETIMEDOUT;
  int reason = 0;
  socklen_t size = sizeof reason;
  getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &reason, &size);
  return reason;
}

std::string to_numbers(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST] = {};
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST) !=
      0) {
    return {};
  }
  const std::string text = host;
  const std::string mapped = "::ffff:";  // an IPv4 address on a socket of both kinds
  return text.starts_with(mapped) ? text.substr(mapped.size()) : text;
}

template <typename Question>
std::string address_of(const Socket& socket, Question question) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (question(socket.descriptor(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return to_numbers(address, size);
}

}  // namespace

void Socket::close() {
  if (is_open()) ::close(std::exchange(descriptor_, -1));
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

Result<Socket> listen_at(bool loopback_only, int port) {
  int reason = 0;
  // An IPv6 socket takes IPv4 as well; where there is no IPv6, an IPv4 one has to do.
  for (const char* host : {loopback_only ? "127.0.0.1" : "::", "0.0.0.0"}) {
    const auto [addresses, code] = resolve(host, port, AI_PASSIVE | AI_NUMERICHOST);
    if (addresses == nullptr) continue;
    Socket socket = open_for(*addresses);
    const int on = 1, off = 0;
    setsockopt(socket.descriptor(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (addresses->ai_family == AF_INET6) {
      setsockopt(socket.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(socket.descriptor(), addresses->ai_addr, addresses->ai_addrlen) == 0 &&
        listen(socket.descriptor(), kBacklog) == 0) {
      set_up(socket);
      return socket;
    }
    reason = errno;
    if (loopback_only || reason == EADDRINUSE) break;
  }
  return Error{ErrorKind::Unavailable, fmt::format("port {}", port),
               fmt::format("cannot be listened at: {}", std::strerror(reason))};
}

int port_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(socket.descriptor(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

Result<Socket> connect_to(const std::string& host, int port, SteadyTime deadline) {
  for (;;) {
    const auto [addresses, code] = resolve(host.c_str(), port, 0);
    int reason = 0;
    for (const addrinfo* each = addresses.get(); each != nullptr; each = each->ai_next) {
      Socket socket = open_for(*each);
      reason = try_connect(socket, *each, deadline);
      if (reason == 0) return socket;
    }
    if (std::chrono::steady_clock::now() + kRetry >= deadline) {
      if (code != 0) return Error{ErrorKind::BadInput, host, gai_strerror(code)};
      return Error{ErrorKind::RunFailed, fmt::format("{}:{}", host, port), std::strerror(reason)};
    }
    std::this_thread::sleep_for(kRetry);
  }
}

std::optional<Socket> accept_one(const Socket& listener, SteadyTime deadline) {
  while (wait_for(listener, POLLIN, deadline)) {
    Socket socket(accept4(listener.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.is_open()) continue;  // it has gone again
    set_up(socket);
    return socket;
  }
  return std::nullopt;
}

std::string peer_address(const Socket& socket) { return address_of(socket, &getpeername); }
std::string own_address(const Socket& socket) { return address_of(socket, &getsockname); }

bool send_all(const Socket& socket, const void* data, std::size_t bytes, SteadyTime deadline) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(socket.descriptor(), at, bytes, MSG_NOSIGNAL);
    if (sent > 0) {
      at += sent;
      bytes -= static_cast<std::size_t>(sent);
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    } else if (!wait_for(socket, POLLOUT, deadline)) {
      return false;
    }
  }
  return true;
}

bool receive_all(const Socket& socket, void* data, std::size_t bytes, SteadyTime deadline) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t received = recv(socket.descriptor(), at, bytes, 0);
    if (received > 0) {
      at += received;
      bytes -= static_cast<std::size_t>(received);
    } else if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
      return false;
    } else if (!wait_for(socket, POLLIN, deadline)) {
      return false;
    }
  }
  return true;
}

}  // namespace moecast
