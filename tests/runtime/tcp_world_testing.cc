#include "tests/runtime/tcp_world_testing.h"

#include <thread>

#include <gtest/gtest.h>

#include "runtime/comm/socket.h"

namespace moecast::testing {

int free_port() {
  const Result<Socket> socket = listen_at(true, 0);
  EXPECT_TRUE(socket.ok());
  return port_of(*socket);
}

Launch launch_at(int port, int rank, int size) {
  Launch launch;
  launch.by = Launch::By::Variables;
  launch.rank = launch.local_rank = rank;
  launch.size = size;
  launch.address = "127.0.0.1";
  launch.port = port;
  return launch;
}

void on_tcp_ranks(int size, const std::function<void(ProcessWorld& world)>& body) {
  const int port = free_port();
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const World world = meet_processes(launch_at(port, rank, size), std::chrono::seconds(30));
      ASSERT_TRUE(world.ok()) << world.error().text();
      body(**world);
    });
  }
}

}  // namespace moecast::testing
