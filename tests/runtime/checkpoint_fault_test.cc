#include <thread>

#include <gtest/gtest.h>

#include "base/random.h"
#include "runtime/checkpoint/collect.h"
#include "runtime/checkpoint/faulty_environment.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/checkpoint/memory_environment.h"
#include "tests/runtime/checkpoint_testing.h"

// The process stops, or an operation fails, at every point where something is written; bits turn over; the disk fills.
// A committed checkpoint is never lost, a torn one never accepted: restore_all compares every byte.
namespace moecast::testing {
namespace {

using Kind = CheckpointOutcome::Kind;
using Survival = MemoryEnvironment::Survival;

/// A full checkpoint at step 10, then partial ones. Returns the step of the last one that was reported as committed, 0
/// if none was.
std::int64_t train(ToyRun& run, const ToyModel& model, Environment& environment, std::int64_t checkpoints,
                   const History& history = {}, std::int64_t first_step = 10) {
  EngineOptions options = run.options();
  options.retention = Retention{2, 1};
  options.history = history;
  auto engines = run.engines(environment, options);
  if (!engines.ok()) return 0;
  std::int64_t committed = 0;
  for (std::int64_t i = 0; i < checkpoints; ++i) {
    const std::set<std::size_t> chosen =
        i == 0 ? all_units(model) : std::set<std::size_t>{static_cast<std::size_t>(i) % model.units().size()};
    run.snapshot(engines.value(), first_step + i, chosen);
    drain(engines.value());
    for (const CheckpointOutcome& outcome : engines.value()[0]->take_outcomes()) {
      if (outcome.kind == Kind::Committed) committed = outcome.step;
    }
  }
  return committed;
}

struct PowerLoss {
  Survival survival;
  std::uint64_t seed;
};
const std::vector<PowerLoss> kLosses = {{Survival::Nothing, 0},
                                        {Survival::Everything, 0},
                                        {Survival::Random, 1},
                                        {Survival::Random, 2},
                                        {Survival::Random, 3}};

/// What must hold after the power came back.
void expect_recovery(MemoryEnvironment& environment, const ToyModel& model, std::int64_t committed,
                     std::int64_t attempted, const std::string& what) {
  ToyRun run(model, 2);
  if (environment.list(kFolder).value().has_value()) {
    const Verification found = verify_checkpoints(environment, kFolder).value();
    EXPECT_TRUE(found.good()) << what;  // an edit that exists is whole
  }
  const auto reports = run.restore_all(environment);
  if (!reports.ok()) {
    EXPECT_EQ(committed, 0) << what << ": " << reports.error().text();
    return;
  }
  EXPECT_GE(reports->front().state.step, committed) << what;
  EXPECT_LE(reports->front().state.step, attempted) << what;
  EXPECT_TRUE(reports->front().damages.empty()) << what;  // what is committed is whole
  // And training goes on in the same folder.
  const std::int64_t step = reports->front().state.step;
  EXPECT_EQ(train(run, model, environment, 2, reports->front().history, step + 1), step + 2) << what;
  EXPECT_TRUE(verify_checkpoints(environment, kFolder).value().good()) << what;
}

TEST(CheckpointFault, StoppingAtEveryWriteLosesNoCommittedCheckpoint) {
  const ToyModel model;
  constexpr std::int64_t kCheckpoints = 4;
  std::int64_t stops = 0;
  std::int64_t recovered = 0;
  for (std::int64_t stop = 0;; ++stop) {
    MemoryEnvironment memory;
    StorageFaults faults;
    faults.stop_at = stop;
    FaultyEnvironment environment(memory, faults);
    ToyRun run(model, 2);
    const std::int64_t committed = train(run, model, environment, kCheckpoints);
    if (environment.operation_count() <= stop) break;  // the whole run needs fewer operations
    ++stops;
    for (const PowerLoss& loss : kLosses) {
      const auto after = memory.after_power_loss(loss.survival, loss.seed * 1000 + static_cast<std::uint64_t>(stop));
      expect_recovery(*after, model, committed, 10 + kCheckpoints - 1, "stopped at " + std::to_string(stop));
      recovered += committed > 0 ? 1 : 0;
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(stops, 150);
  RecordProperty("stops", static_cast<int>(stops));
  RecordProperty("recoveries", static_cast<int>(recovered));
}

TEST(CheckpointFault, AFailureAtEveryWriteCostsOneCheckpointAtMost) {
  const ToyModel model;
  constexpr std::int64_t kCheckpoints = 4;
  for (std::int64_t fail = 0;; ++fail) {
    MemoryEnvironment memory;
    StorageFaults faults;
    faults.fail_at = fail;
    FaultyEnvironment environment(memory, faults);
    ToyRun run(model, 2);
    EngineOptions options = run.options();
    options.retention = Retention{2, 1};
    auto engines = run.engines(environment, options);
    if (!engines.ok()) {
      EXPECT_LT(fail, 10) << engines.error().text();  // opening the folder
      continue;
    }
    std::int64_t failed = 0;
    std::int64_t committed = 0;
    for (std::int64_t i = 0; i < kCheckpoints; ++i) {
      run.snapshot(engines.value(), 10 + i, all_units(model));
      drain(engines.value());
      for (const CheckpointOutcome& outcome : engines.value()[0]->take_outcomes()) {
        failed += outcome.kind == Kind::Failed ? 1 : 0;
        EXPECT_EQ(outcome.kind == Kind::Failed, outcome.kind != Kind::Committed);
        EXPECT_TRUE(outcome.kind == Kind::Committed || outcome.error.has_value());
        if (outcome.kind == Kind::Committed) committed = outcome.step;
      }
    }
    EXPECT_LE(failed, 1);
    const auto after = memory.after_power_loss(Survival::Nothing, 0);
    expect_recovery(*after, model, committed, 10 + kCheckpoints - 1, "failed at " + std::to_string(fail));
    if (HasFailure() || environment.operation_count() <= fail) return;
  }
}

TEST(CheckpointFault, AFullDiskIsNamedAndTrainingGoesOn) {
  const ToyModel model;
  MemoryEnvironment memory;
  FaultyEnvironment environment(memory, {});
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  Bytes used{0};
  const CheckpointFolder first = read_checkpoint_folder(memory, kFolder).value();
  for (const auto& [name, size] : first.data) used += size;
  int full = 0;
  for (std::int64_t extra = 0; extra < 16000; extra += 500) {
    StorageFaults faults;
    faults.capacity = Bytes(used.count() + extra);
    environment.set_faults(faults);
    run.snapshot(engines, 20, all_units(model));
    drain(engines);
    const CheckpointOutcome outcome = engines[0]->take_outcomes().back();
    if (outcome.kind == Kind::Committed) break;
    ++full;
    const std::string text = outcome.error->text();
    EXPECT_TRUE(text.find(kStorageFull) != std::string::npos || text.find("rank 1 could not") != std::string::npos)
        << text;
    EXPECT_EQ(run.restore_all(memory).value()[0].state.step, 10);
  }
  EXPECT_GT(full, 3);
  environment.set_faults({});
  run.snapshot(engines, 30, all_units(model));
  drain(engines);
  EXPECT_EQ(run.restore_all(memory).value()[0].state.step, 30);
  EXPECT_EQ(engines[0]->take_outcomes().back().kind, Kind::Committed);
}

TEST(CheckpointFault, ATurnedBitIsFoundWhereverItIsAndNeverRestored) {
  const ToyModel model;
  MemoryEnvironment memory;
  ToyRun run(model, 2);
  train(run, model, memory, 3);
  const auto names = memory.list(kFolder).value().value();
  int fell_back = 0;
  for (const std::string& name : names) {
    const std::int64_t bits = memory.size(kFolder / name).value()->count() * 8;
    for (std::int64_t bit = 5; bit < bits; bit += 1 + bits / 23) {
      const auto turned = memory.after_power_loss(Survival::Everything, 0);
      turned->flip_bit(kFolder / name, bit);
      const Result<Verification> verification = verify_checkpoints(*turned, kFolder);
      ASSERT_TRUE(verification.ok()) << name << ": " << verification.error().text();
      EXPECT_FALSE(verification->good()) << name << " bit " << bit;
      ToyRun later(model, 1);
      const auto reports = later.restore_all(*turned);  // compares every byte
      if (reports.ok() && reports->front().state.step < 12) ++fell_back;
    }
  }
  EXPECT_GT(fell_back, 10);  // an older version was there and was taken
}

TEST(CheckpointFault, ABitThatTurnsWhileWritingIsFoundLater) {
  const ToyModel model;
  for (std::int64_t flip = 5; flip < 120; flip += 3) {
    MemoryEnvironment memory;
    StorageFaults faults;
    faults.flip_at = flip;
    FaultyEnvironment environment(memory, faults);
    ToyRun run(model, 1);
    train(run, model, environment, 3);
    const auto reports = run.restore_all(memory);
    EXPECT_TRUE(reports.ok() || reports.error().message.find("no checkpoint can be restored") != std::string::npos);
  }
}

TEST(CheckpointFault, ABadUnitFallsBackAloneABadBaseTakesTheVersionAlong) {
  const ToyModel model;
  MemoryEnvironment memory;
  ToyRun run(model, 1);
  auto engines = run.engines(memory, run.options()).value();
  for (std::int64_t step = 10; step <= 12; ++step) {
    run.snapshot(engines, step, all_units(model));
    drain(engines);
  }
  engines.clear();
  const auto bad_unit = memory.after_power_loss(Survival::Everything, 0);
  bad_unit->flip_bit(kFolder / "data-000000003-0000-units-0.safetensors", 8 * 4096 + 3);
  const RestoreReport unit = run.restore_all(*bad_unit).value()[0];
  EXPECT_EQ(unit.state.step, 12);
  EXPECT_EQ(unit.damages.size(), 1U);
  int older = 0;
  for (const RestoredUnit& each : unit.units) older += each.step == 11 ? 1 : 0;
  EXPECT_EQ(older, 1);
  const auto bad_base = memory.after_power_loss(Survival::Everything, 0);
  bad_base->flip_bit(kFolder / "data-000000003-0000-base-0.safetensors", 8 * 4096 + 3);
  EXPECT_EQ(run.restore_all(*bad_base).value()[0].state.step, 11);
}

TEST(CheckpointFault, RanksThatCannotTalkEndWithAnErrorAndTheFolderStaysGood) {
  const ToyModel model;
  MemoryEnvironment memory;
  FaultyEnvironment environment(memory, {});
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  environment.hold_appends();
  run.snapshot(engines, 20, all_units(model));
  // Rank 1 dies while both are writing; its destructor waits for the write that is under way.
  std::thread killer([&] { engines[1].reset(); });
  environment.release_appends();
  killer.join();
  engines[0]->drain();
  const auto outcomes = engines[0]->take_outcomes();
  ASSERT_EQ(outcomes.size(), 2U);
  engines.clear();
  const std::int64_t step = run.restore_all(memory).value()[0].state.step;
  EXPECT_TRUE(step == 10 || step == 20);
  EXPECT_TRUE(outcomes[1].kind != Kind::Committed || step == 20);
}

// Garbage collection -----------------------------------------------------------------------------------------------

/// The versions that a restore takes, by unit; "" is the base.
std::map<std::string, std::int64_t> choice(Environment& environment, const ToyModel& model, std::int64_t bound) {
  RestoreBounds bounds;
  bounds.version = bound;
  ToyRun run(model, 1);
  const auto reports = run.restore_all(environment, {}, bounds);
  std::map<std::string, std::int64_t> out;
  if (!reports.ok()) return out;
  out[""] = reports->front().version;
  for (const RestoredUnit& unit : reports->front().units) out[unit.unit] = unit.version;
  return out;
}

TEST(CheckpointFault, GarbageCollectionChangesNothingThatRetainedVersionsRestore) {
  const ToyModel model;
  std::size_t collected = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const CounterRandom random(seed, stream_of("garbage"));
    std::uint64_t draw = 0;
    MemoryEnvironment memory;
    ToyRun run(model, 2);
    History history;
    std::int64_t step = 10;
    for (int life = 0; life < 3; ++life) {  // each goes back to some older version
      EngineOptions options = run.options();
      options.history = history;
      auto engines = run.engines(memory, options).value();
      const std::int64_t count = 1 + random.below(4, 0, draw++);
      for (std::int64_t i = 0; i < count; ++i) {
        std::set<std::size_t> chosen;
        for (std::size_t u = 0; u < 4; ++u) {
          if (step == 10 || random.below(3, 0, draw++) == 0) chosen.insert(u);
        }
        run.snapshot(engines, step++, chosen);
        drain(engines);
      }
      engines.clear();
      RestoreBounds bounds;
      bounds.version = 1 + random.below(8, 0, draw++);
      history = run.restore_all(memory, {}, bounds).value()[0].history;
    }
    // Some damage: a payload other than the first checkpoint's.
    CheckpointFolder folder = read_checkpoint_folder(memory, kFolder).value();
    std::vector<std::string> names;
    for (const auto& [name, size] : folder.data) {
      if (!name.starts_with("data-000000001")) names.push_back(name);
    }
    if (!names.empty() && random.below(2, 0, draw++) == 0) {
      const std::string& victim =
          names[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(names.size()), 0, draw++))];
      memory.flip_bit(kFolder / victim, (memory.size(kFolder / victim).value()->count() - 1) * 8);
    }

    const Retention retention = {1 + random.below(3, 0, draw++), 1 + random.below(2, 0, draw++)};
    CollectOptions options;
    options.verify = true;
    options.dry_run = true;
    const Garbage planned = collect_garbage(memory, kFolder, retention, options).value();
    ASSERT_FALSE(planned.kept_versions.empty()) << seed;
    std::map<std::int64_t, std::map<std::string, std::int64_t>> before;
    for (const std::int64_t version : planned.kept_versions) before[version] = choice(memory, model, version);
    options.dry_run = false;
    const Garbage garbage = collect_garbage(memory, kFolder, retention, options).value();
    EXPECT_EQ(garbage.removed, planned.removed) << seed;
    collected += garbage.removed.size();
    for (const auto& [version, units] : before) {
      EXPECT_EQ(units.at(""), version) << seed;
      EXPECT_EQ(choice(memory, model, version), units) << seed;
    }
    EXPECT_TRUE(collect_garbage(memory, kFolder, retention, options).value().removed.empty()) << seed;
    const CheckpointFolder left = read_checkpoint_folder(memory, kFolder).value();
    for (const Damage& damage : left.damages) {
      ADD_FAILURE() << seed << ": " << damage.file << " " << damage.reason;
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(collected, 100U);
}

TEST(CheckpointFault, GarbageCollectionThatStopsAnywhereLosesNothing) {
  const ToyModel model;
  MemoryEnvironment full;
  ToyRun run(model, 2);
  auto engines = run.engines(full, run.options()).value();
  for (std::int64_t i = 0; i < 6; ++i) {
    run.snapshot(engines, 10 + i, i == 0 ? all_units(model) : std::set<std::size_t>{static_cast<std::size_t>(i % 4)});
    drain(engines);
  }
  engines.clear();
  const auto expected = choice(full, model, 100);
  for (std::int64_t stop = 0;; ++stop) {
    const auto memory = full.after_power_loss(Survival::Everything, 0);
    StorageFaults faults;
    faults.stop_at = stop;
    FaultyEnvironment environment(*memory, faults);
    const bool finished = collect_garbage(environment, kFolder, Retention{1, 1}, {}).ok();
    for (const PowerLoss& loss : kLosses) {
      const auto after = memory->after_power_loss(loss.survival, loss.seed * 1000 + static_cast<std::uint64_t>(stop));
      EXPECT_TRUE(verify_checkpoints(*after, kFolder).value().good()) << stop;
      EXPECT_EQ(choice(*after, model, 100), expected) << stop;
      ASSERT_TRUE(collect_garbage(*after, kFolder, Retention{1, 1}, {}).ok());
      EXPECT_EQ(choice(*after, model, 100), expected) << stop;
      EXPECT_TRUE(verify_checkpoints(*after, kFolder).value().good()) << stop;
    }
    if (finished || HasFailure()) {
      EXPECT_GT(stop, 5);
      return;
    }
  }
}

TEST(CheckpointFault, GarbageCollectionSparesACheckpointThatIsBeingWritten) {
  const ToyModel model;
  MemoryEnvironment memory;
  ToyRun run(model, 1);
  train(run, model, memory, 3);
  ASSERT_TRUE(write_synced(memory, kFolder / "data-000000009-0000-base-0.safetensors", "being written").ok());
  ASSERT_TRUE(write_synced(memory, kFolder / "notes.txt", "of somebody else").ok());
  ASSERT_TRUE(collect_garbage(memory, kFolder, {}, {}).ok());
  EXPECT_TRUE(memory.size(kFolder / "data-000000009-0000-base-0.safetensors").value().has_value());
  CollectOptions idle;
  idle.idle = true;
  ASSERT_TRUE(collect_garbage(memory, kFolder, {}, idle).ok());
  EXPECT_FALSE(memory.size(kFolder / "data-000000009-0000-base-0.safetensors").value().has_value());
  EXPECT_TRUE(memory.size(kFolder / "notes.txt").value().has_value());
}

}  // namespace
}  // namespace moecast::testing
