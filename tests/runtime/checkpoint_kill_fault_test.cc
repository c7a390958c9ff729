#include <csignal>
#include <cstdlib>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/checkpoint/posix_environment.h"
#include "tests/runtime/checkpoint_testing.h"

// A real process that writes checkpoints on a real file system is killed at random moments, again and again in one
// folder. MOECAST_KILLS sets how often (default 6).
namespace moecast::testing {
namespace {

namespace fs = std::filesystem;

/// Goes on from what is there and writes checkpoints until it is killed. Every step that is known to be committed goes
/// into the pipe.
[[noreturn]] void train_until_killed(const ToyModel& model, const fs::path& folder, int pipe) {
  const auto environment = make_posix_environment();
  ToyRun run(model, 2);
  EngineOptions options = run.options();
  options.folder = folder;
  options.retention = Retention{2, 1};
  options.shard_size = Bytes(1 << 20);
  std::int64_t step = 1;
  bool first = true;
  const auto reports = run.restore_all(*environment, {}, {}, folder);
  if (reports.ok()) {
    step = reports->front().state.step + 1;
    options.history = reports->front().history;
    first = false;
  }
  auto engines = run.engines(*environment, options);
  if (!engines.ok()) ::_exit(3);
  while (true) {
    const std::size_t unit = static_cast<std::size_t>(step) % model.units().size();
    run.snapshot(engines.value(), step, first ? all_units(model) : std::set<std::size_t>{unit});
    first = false;
    drain(engines.value());
    for (const CheckpointOutcome& outcome : engines.value()[0]->take_outcomes()) {
      if (outcome.kind != CheckpointOutcome::Kind::Committed) ::_exit(4);
      if (::write(pipe, &outcome.step, sizeof outcome.step) != sizeof outcome.step) ::_exit(5);
    }
    ++step;
  }
}

std::int64_t kill_count() {
  const char* text = std::getenv("MOECAST_KILLS");
  return text == nullptr ? 6 : std::strtoll(text, nullptr, 10);
}

TEST(CheckpointKillFault, AKilledProcessLosesNoCommittedCheckpoint) {
  const ToyModel model(4, 3000);
  const fs::path folder = fs::path(::testing::TempDir()) / fmt::format("moecast_kill_{}", ::getpid());
  fs::remove_all(folder);
  const CounterRandom random(7, stream_of("kill"));
  const auto environment = make_posix_environment();
  std::int64_t last = 0;  // the newest step that must not be lost
  std::int64_t commits = 0;
  for (std::int64_t kill = 0; kill < kill_count(); ++kill) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      train_until_killed(model, folder, ends[1]);
    }
    ::close(ends[1]);
    // Let it commit once, then kill it within the time of a few checkpoints.
    std::int64_t step = 0;
    if (::read(ends[0], &step, sizeof step) == sizeof step) last = step;
    ::usleep(static_cast<useconds_t>(random.below(120'000, static_cast<std::uint64_t>(kill), 0)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    while (::read(ends[0], &step, sizeof step) == sizeof step) {
      last = step;
      ++commits;
    }
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "exit " << WEXITSTATUS(status);

    ToyRun run(model, 2);
    const auto reports = run.restore_all(*environment, {}, {}, folder);  // compares every byte
    ASSERT_TRUE(reports.ok()) << "after kill " << kill << ": " << reports.error().text();
    EXPECT_GE(reports->front().state.step, last);
    EXPECT_LE(reports->front().state.step, last + 1);
    EXPECT_TRUE(reports->front().damages.empty());
    if (HasFailure()) return;
  }
  EXPECT_GE(commits, 0);
  RecordProperty("commits", static_cast<int>(commits));
  const Verification verification = verify_checkpoints(*environment, folder).value();
  EXPECT_TRUE(verification.good());
  fs::remove_all(folder);
}

/// As a user who may not write there; root may, so root becomes somebody else, in a child.
TEST(CheckpointKillFault, AFolderWithoutPermissionIsNamedAndLeftAlone) {
  const ToyModel model;
  const fs::path folder = fs::path(::testing::TempDir()) / fmt::format("moecast_permission_{}", ::getpid());
  fs::create_directories(folder);
  fs::permissions(folder,
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(9);
    const auto environment = make_posix_environment();
    ToyRun run(model, 2);
    EngineOptions options = run.options();
    options.folder = folder;
    const auto engines = run.engines(*environment, options);
    if (engines.ok()) ::_exit(1);
    if (engines.error().kind != ErrorKind::BadInput) ::_exit(2);
    if (!engines.error().message.starts_with(kNoPermission)) ::_exit(3);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
  EXPECT_TRUE(fs::is_empty(folder));
  fs::permissions(folder, fs::perms::owner_all);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace moecast::testing
