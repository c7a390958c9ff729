#include <array>
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "runtime/comm/socket.h"
#include "runtime/comm/tcp_meeting.h"
#include "tests/runtime/tcp_world_testing.h"

namespace moecast::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

LinkOptions with_timeout(Duration timeout) {
  LinkOptions options;
  options.timeout = timeout;
  return options;
}

std::unique_ptr<Communicator> group_of_all(ProcessWorld& world, Duration timeout = seconds(30)) {
  Result<std::unique_ptr<Communicator>> group = world.make_world_group("world", with_timeout(timeout));
  EXPECT_TRUE(group.ok()) << group.error().text();
  return std::move(group).value();
}

/// The errors of ranks that call with these launches at once; "met" without one.
std::vector<std::string> meetings(const std::vector<Launch>& launches, Duration timeout) {
  std::vector<std::string> texts(launches.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < launches.size(); ++i) {
    threads.emplace_back([&, i] {
      const World world = meet_processes(launches[i], timeout);
      texts[i] = world.ok() ? "met" : world.error().text();
    });
  }
  threads.clear();  // joins
  return texts;
}

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(TcpFault, RanksThatStayAwayAreNamedToAllWhoCame) {
  const int port = free_port();
  const auto texts = meetings({launch_at(port, 0, 4), launch_at(port, 2, 4)}, milliseconds(300));
  for (const std::string& text : texts) expect_part(text, "rank 1, 3 stayed away");
}

TEST(TcpFault, WhoFindsNoRankZeroSaysSo) {
  const auto texts = meetings({launch_at(free_port(), 1, 2)}, milliseconds(100));
  expect_part(texts[0], "rank 1 waited 100 ms in vain for rank 0");
}

TEST(TcpFault, APortThatIsTakenIsAnError) {
  const int port = free_port();
  const Result<Socket> other_program = listen_at(true, port);
  ASSERT_TRUE(other_program.ok());
  const World world = meet_processes(launch_at(port, 0, 2), seconds(5));
  ASSERT_FALSE(world.ok());
  EXPECT_EQ(world.error().kind, ErrorKind::Unavailable);
  expect_part(world.error().text(), "Address already in use; give all ranks another MASTER_PORT");
}

TEST(TcpFault, AllNeedTheSameNumberOfProcesses) {
  const int port = free_port();
  const auto texts = meetings({launch_at(port, 0, 2), launch_at(port, 1, 3)}, seconds(5));
  for (const std::string& text : texts)
    expect_part(text, "rank 1 was started as one of 3 processes, rank 0 as one of 2");
}

TEST(TcpFault, TwoProcessesOfOneRankAreAnError) {
  const int port = free_port();
  const auto texts = meetings({launch_at(port, 0, 3), launch_at(port, 1, 3), launch_at(port, 1, 3)}, seconds(5));
  for (const std::string& text : texts) expect_part(text, "two processes say that they are rank 1");
}

TEST(TcpFault, StrangersAtThePortDoNotDisturb) {
  const int port = free_port();
  std::vector<std::string> first;
  std::jthread rank_zero([&] { first = meetings({launch_at(port, 0, 2)}, seconds(20)); });
  const auto deadline = std::chrono::steady_clock::now() + seconds(10);
  const Result<Socket> stranger = connect_to("127.0.0.1", port, deadline);
  ASSERT_TRUE(stranger.ok()) << stranger.error().text();
  const std::array<char, 64> noise = {"GET / HTTP/1.1\r\n\r\n"};
  EXPECT_TRUE(send_all(*stranger, noise.data(), noise.size(), deadline));
  EXPECT_EQ(meetings({launch_at(port, 1, 2)}, seconds(20)), std::vector<std::string>{"met"});
  rank_zero.join();
  EXPECT_EQ(first, std::vector<std::string>{"met"});
}

TEST(TcpFault, ARankThatEndsIsNamedAtOnce) {
  std::array<std::string, 3> texts;
  on_tcp_ranks(3, [&](ProcessWorld& world) {
    const auto group = group_of_all(world, std::chrono::hours(1));
    ASSERT_TRUE(group->barrier().ok());
    if (world.rank() == 1) return;  // its connections close, as when a process dies
    const Status status = group->barrier();
    texts[static_cast<std::size_t>(world.rank())] = status.ok() ? "fine" : status.error().text();
  });
  expect_part(texts[0], "rank 1 is gone");
  expect_part(texts[2], "rank 1");
}

TEST(TcpFault, CheckTellsOfAPeerThatIsGoneWithoutACall) {
  on_tcp_ranks(2, [&](ProcessWorld& world) {
    const auto group = group_of_all(world);
    ASSERT_TRUE(group->barrier().ok());
    EXPECT_TRUE(world.rank() == 1 || group->check().ok());
    ASSERT_TRUE(group->barrier().ok());
    if (world.rank() == 1) return;
    const auto deadline = std::chrono::steady_clock::now() + seconds(20);
    while (group->check().ok() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    ASSERT_FALSE(group->check().ok());
    expect_part(group->check().error().text(), "rank 1 is gone");
  });
}

TEST(TcpFault, AFailureInTheMiddleOfATransferReachesAPeerThatStillReads) {
  // More than the network's buffers hold, so that a message is half under way when its sender gives up.
  constexpr std::int64_t kRows = std::int64_t{1} << 24;
  std::array<std::string, 3> texts;
  std::atomic<int> begun = 0;
  on_tcp_ranks(3, [&](ProcessWorld& world) {
    const auto group = group_of_all(world, std::chrono::hours(1));
    std::vector<float> memory(static_cast<std::size_t>(kRows));
    std::jthread other;
    if (world.rank() == 0) {
      other = std::jthread([&] {
        while (begun < 3) std::this_thread::yield();
        group->abort({ErrorKind::RunFailed, "L1.Expert.F", "out of memory"});
      });
    }
    ++begun;
    Status status;
    while (status.ok()) status = group->broadcast(Tensor(memory.data(), DType::F32, {kRows}), 0);
    texts[static_cast<std::size_t>(world.rank())] = status.error().text();
  });
  for (const std::string& text : texts) expect_part(text, "rank 0 gave up: L1.Expert.F: out of memory");
}

TEST(TcpFault, NewGroupsCanBeMadeAfterAFailure) {
  on_tcp_ranks(2, [&](ProcessWorld& world) {
    const auto failed = group_of_all(world);
    if (world.rank() == 1) failed->abort({ErrorKind::RunFailed, "", "test"});
    EXPECT_FALSE(failed->barrier().ok());
    EXPECT_TRUE(group_of_all(world)->barrier().ok());
  });
}

}  // namespace
}  // namespace moecast::testing
