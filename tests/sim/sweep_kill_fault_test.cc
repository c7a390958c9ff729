#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/sim/sweep_testing.h"

// A real process that runs a sweep is killed at random moments, again and again with one journal. MOECAST_KILLS sets
// how often (default 6).

namespace moecast {
namespace {

using namespace testing_sweep;

std::int64_t kill_count() {
  const char* text = std::getenv("MOECAST_KILLS");
  return text == nullptr ? 6 : std::strtoll(text, nullptr, 10);
}

/// What the process says of itself, one record for each point: it begins, or it is in the journal.
struct Message {
  std::int64_t point = 0;
  bool kept = false;
};

/// Two threads, as SweepThreads has them, that say which point they begin.
class TellingWorkers final : public SweepWorkers {
 public:
  TellingWorkers(const SweepSpec& spec, const std::vector<SweepPoint>& points, int pipe)
      : spec_(spec), points_(points), pipe_(pipe) {}
  Status evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                  const std::function<bool()>& stop) override {
    for (const SweepRequest& request : requests) {
      const Message message{request.point, false};
      if (::write(pipe_, &message, sizeof message) != sizeof message) ::_exit(4);
      SweepThreads one(spec_, points_, 2);
      RETURN_IF_ERROR(one.evaluate({&request, 1}, take, stop));
    }
    return {};
  }

 private:
  const SweepSpec& spec_;
  const std::vector<SweepPoint>& points_;
  int pipe_;
};

[[noreturn]] void sweep_until_killed(const SweepSpec& spec, const std::filesystem::path& path, int pipe) {
  const std::vector<SweepPoint> points = points_of(spec);
  Result<SweepJournal> journal =
      SweepJournal::open(path, sweep_hash(spec, points_of(spec), ""), sweep_metrics(spec.kind).size());
  if (!journal.ok()) ::_exit(3);
  TellingWorkers workers(spec, points, pipe);
  std::int64_t last = -1;
  SweepHooks hooks;
  hooks.progress = [&](const SweepProgress& progress) {
    if (std::exchange(last, progress.done) < 0) return;  // said before the first row
    const Message message{0, true};
    if (::write(pipe, &message, sizeof message) != sizeof message) ::_exit(5);
  };
  ::_exit(run_sweep(spec, points, workers, &*journal, hooks).ok() ? 0 : 6);
}

/// More points than all killed runs get to.
SweepSpec long_sweep() {
  return good_sweep(fmt::format(
      R"("axes": [{{"pointer": "/campaign/policy/interval", "range": {{"from": 10, "to": {}, "step": 10}}}}],
                       "replicas": 20, "objective": {{"metric": "goodput", "goal": "max"}})",
      400 * kill_count()));
}

TEST(SweepKillFault, AKilledSweepLosesNoFinishedPointAndRepeatsOnlyTheOneInFlight) {
  const Folder folder;
  const auto path = folder.path() / "journal";
  const SweepSpec spec = long_sweep();
  const CounterRandom random(7, stream_of("kill"));
  std::map<std::int64_t, int> begun;
  std::size_t kept = 0;
  int killed = 0;
  for (std::int64_t kill = 0; kill < kill_count(); ++kill) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) sweep_until_killed(spec, path, ends[1]);
    ::close(ends[1]);
    Message message;
    const std::int64_t until = 1 + random.below(40, static_cast<std::uint64_t>(kill), 0);
    for (std::int64_t i = 0; i < until && ::read(ends[0], &message, sizeof message) == sizeof message; ++i) {
      message.kept ? static_cast<void>(++kept) : static_cast<void>(++begun[message.point]);
    }
    ::usleep(static_cast<useconds_t>(random.below(3000, static_cast<std::uint64_t>(kill), 1)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
    while (::read(ends[0], &message, sizeof message) == sizeof message) {
      message.kept ? static_cast<void>(++kept) : static_cast<void>(++begun[message.point]);
    }
    ::close(ends[0]);
    Result<SweepJournal> journal =
        SweepJournal::open(path, sweep_hash(spec, points_of(spec), ""), sweep_metrics(spec.kind).size());
    ASSERT_TRUE(journal.ok()) << journal.error().text();
    std::set<std::int64_t> rows;
    for (const SweepRow& row : journal->take_recovered()) {
      EXPECT_TRUE(rows.insert(row.request.point).second) << "point " << row.request.point << " ran twice";
    }
    EXPECT_GE(rows.size(), kept);
    EXPECT_LE(rows.size(), kept + static_cast<std::size_t>(kill) + 1) << "a row that nobody heard of";
    kept = rows.size();
  }
  int repeated = 0;
  for (const auto& [point, count] : begun) repeated += count - 1;
  EXPECT_EQ(killed, kill_count());
  EXPECT_LE(repeated, killed);

  const std::vector<SweepPoint> points = points_of(spec);
  SweepThreads workers(spec, points, 2);
  Result<SweepJournal> journal =
      SweepJournal::open(path, sweep_hash(spec, points_of(spec), ""), sweep_metrics(spec.kind).size());
  const Result<SweepRows> resumed = run_sweep(spec, points, workers, &*journal);
  const Result<SweepRows> whole = run_sweep(spec, points, workers, nullptr);
  EXPECT_EQ(text_of(*resumed), text_of(*whole));
}

}  // namespace
}  // namespace moecast
