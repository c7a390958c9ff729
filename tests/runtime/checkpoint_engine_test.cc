#include "runtime/checkpoint/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/faulty_environment.h"
#include "runtime/checkpoint/file_names.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/checkpoint/memory_environment.h"
#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint_testing.h"

namespace moecast::testing {
namespace {

using Kind = CheckpointOutcome::Kind;

std::int64_t step_of(const RestoreReport& report, const std::string& unit) {
  for (const RestoredUnit& each : report.units) {
    if (each.unit == unit) return each.step;
  }
  return -1;
}

TEST(CheckpointEngine, AFullCheckpointComesBackOnEveryRank) {
  const ToyModel model;
  for (const int ranks : {1, 2, 3}) {
    MemoryEnvironment environment;
    ToyRun run(model, ranks);
    auto engines = run.engines(environment, run.options()).value();
    run.snapshot(engines, 10, all_units(model));
    drain(engines);
    for (const auto& engine : engines) {
      const auto outcomes = engine->take_outcomes();
      ASSERT_EQ(outcomes.size(), 1U);
      EXPECT_EQ(outcomes[0].kind, Kind::Committed);
      EXPECT_EQ(outcomes[0].step, 10);
      EXPECT_GE(outcomes[0].copy_end, outcomes[0].copy_begin);
      EXPECT_GE(outcomes[0].durable, outcomes[0].persist_begin);
      EXPECT_GE(outcomes[0].committed, outcomes[0].durable);
      EXPECT_GT(outcomes[0].copied, Bytes(0));
    }
    engines.clear();
    ToyRun later(model, ranks);
    const auto reports = later.restore_all(environment);
    ASSERT_TRUE(reports.ok()) << reports.error().text();
    EXPECT_EQ(reports->front().state.step, 10);
    EXPECT_EQ(reports->front().from_memory, Bytes(0));
    EXPECT_EQ(reports->front().history, (History{{1, 1}}));
  }
}

TEST(CheckpointEngine, AnotherNumberOfRanksReadsTheSameFiles) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 4);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, {1, 2});
  drain(engines);
  for (const int ranks : {1, 2, 3, 8}) {
    ToyRun later(model, ranks);
    const auto reports = later.restore_all(environment);
    ASSERT_TRUE(reports.ok()) << reports.error().text();
    EXPECT_EQ(reports->front().state.step, 20);
    EXPECT_EQ(step_of(reports->front(), model.units()[0]), 10);
  }
}

TEST(CheckpointEngine, PartialCheckpointsKeepTheNewestVersionOfEveryUnit) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  for (std::int64_t i = 1; i <= 6; ++i) {
    run.snapshot(engines, 10 + i, {static_cast<std::size_t>(i % 4)});
    drain(engines);
  }
  ToyRun later(model, 1);
  const RestoreReport report = later.restore_all(environment).value()[0];
  EXPECT_EQ(report.state.step, 16);
  EXPECT_EQ(step_of(report, model.units()[0]), 14);
  EXPECT_EQ(step_of(report, model.units()[1]), 15);
  EXPECT_EQ(step_of(report, model.units()[2]), 16);
  EXPECT_EQ(step_of(report, model.units()[3]), 13);
  RestoreBounds bounds;
  bounds.version = 4;
  EXPECT_EQ(later.restore_all(environment, {}, bounds).value()[0].state.step, 13);
}

/// Figure 8 of MoC-System (arXiv 2408.04307): the node that failed reads everything from storage, the healthy one takes
/// its own, newer experts from memory.
TEST(CheckpointEngine, HealthyRanksTakeTheirUnitsFromMemory) {
  const ToyModel model;  // rank 0 owns units 0 and 2, rank 1 units 1 and 3
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, all_units(model), all_units(model));  // base persisted, all units to memory only
  drain(engines);
  run.snapshot(engines, 30, {0}, {});
  drain(engines);
  engines.clear();
  run.memory(0).lose();
  const auto reports = run.restore_all(environment, {&run.memory(0), &run.memory(1)});
  ASSERT_TRUE(reports.ok()) << reports.error().text();
  EXPECT_EQ(reports->at(0).state.step, 30);
  EXPECT_EQ(step_of(reports->at(0), model.units()[0]), 30);
  EXPECT_EQ(step_of(reports->at(0), model.units()[2]), 10);
  EXPECT_EQ(step_of(reports->at(1), model.units()[1]), 20);
  EXPECT_EQ(step_of(reports->at(1), model.units()[3]), 20);
  EXPECT_GT(reports->at(1).from_memory, Bytes(0));
  EXPECT_GT(reports->at(1).from_storage, Bytes(0));  // the base that lived on rank 0
}

TEST(CheckpointEngine, UnitsOutliveTheBuffersThatHeldThem) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 1);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model), {1, 2, 3});
  for (std::int64_t step = 11; step <= 18; ++step) {  // many rotations later
    drain(engines);
    run.snapshot(engines, step, {0});
  }
  drain(engines);
  const RestoreReport report = run.restore_all(environment, {&run.memory(0)}).value()[0];
  EXPECT_EQ(report.state.step, 18);
  EXPECT_EQ(step_of(report, model.units()[0]), 18);
  EXPECT_EQ(step_of(report, model.units()[3]), 10);
  // Three buffers of the partial checkpoint's size (one may still be the first, full one's) and one copy of the units.
  Bytes full{0};
  for (const ToyModel::Item& item : model.items()) full += Bytes(item.count * bytes_per_element(item.dtype) + 64);
  EXPECT_LE(run.memory(0).size(), full * 4);
}

TEST(CheckpointEngine, ReplicasAgreeOnOneVersionOfAUnit) {
  // Both ranks hold every unit and saved a half each; rank 0's memory, with its newer half, is lost.
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2, true);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, {0, 1}, {0});  // unit 0 to memory only
  drain(engines);
  engines.clear();
  run.memory(0).lose();
  const auto reports = run.restore_all(environment, {&run.memory(0), &run.memory(1)});
  ASSERT_TRUE(reports.ok()) << reports.error().text();
  for (const RestoreReport& report : reports.value()) {
    EXPECT_EQ(step_of(report, model.units()[0]), 10);
    EXPECT_EQ(step_of(report, model.units()[1]), 20);
  }
}

TEST(CheckpointEngine, ASnapshotInEveryMemoryIsAVersionOfItsOwn) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, all_units(model), {}, /*persist=*/false);
  drain(engines);
  const auto outcomes = engines[0]->take_outcomes();
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_EQ(outcomes[1].kind, Kind::Held);
  engines.clear();
  EXPECT_EQ(run.restore_all(environment, {&run.memory(0), &run.memory(1)}).value()[0].state.step, 20);
  EXPECT_EQ(run.restore_all(environment, {&run.memory(0)}).value()[0].state.step, 10);  // half of it is gone
}

TEST(CheckpointEngine, GoingBackLeavesAnotherPastAlone) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 1);
  {
    auto engines = run.engines(environment, run.options()).value();
    run.snapshot(engines, 10, all_units(model));
    drain(engines);
    run.snapshot(engines, 20, {0, 1, 2, 3});
    drain(engines);
  }
  RestoreBounds bounds;
  bounds.version = 1;  // the user goes back to step 10
  ToyRun second(model, 1);
  const RestoreReport back = second.restore_all(environment, {}, bounds).value()[0];
  EngineOptions options = second.options();
  options.history = back.history;
  {
    auto engines = second.engines(environment, options).value();
    second.snapshot(engines, 30, {0});
    drain(engines);
    EXPECT_EQ(engines[0]->last_committed(), 3);
  }
  const RestoreReport report = second.restore_all(environment).value()[0];
  EXPECT_EQ(report.state.step, 30);
  EXPECT_EQ(step_of(report, model.units()[0]), 30);
  EXPECT_EQ(step_of(report, model.units()[1]), 10);  // not 20: that is of the past that was given up
  EXPECT_EQ(report.history, (History{{1, 1}, {3, 3}}));
}

TEST(CheckpointEngine, MemoryAfterARollBackHoldsNothingNewer) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, all_units(model), {}, false);
  engines.clear();
  run.memory(1).lose();
  const auto reports = run.restore_all(environment, {&run.memory(0), &run.memory(1)}).value();
  EXPECT_EQ(reports[0].state.step, 10);
  for (int rank = 0; rank < 2; ++rank) {
    run.memory(rank).roll_back(reports[0].version, reports[0].history);
    EXPECT_LE(run.memory(rank).newest_version(), reports[0].version);
  }
  EngineOptions options = run.options();
  options.history = reports[0].history;
  engines = run.engines(environment, options).value();
  run.snapshot(engines, 15, {0});
  drain(engines);
  EXPECT_EQ(run.restore_all(environment).value()[0].state.step, 15);
}

TEST(CheckpointEngine, ANewerSnapshotReplacesOneThatWaitsOnAllRanksAlike) {
  const ToyModel model;
  MemoryEnvironment memory;
  FaultyEnvironment environment(memory, {});
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  environment.hold_appends();
  for (std::int64_t step = 11; step <= 16; ++step) run.snapshot(engines, step, {0});
  environment.release_appends();
  drain(engines);
  for (const auto& engine : engines) {
    std::map<Kind, int> kinds;
    for (const CheckpointOutcome& outcome : engine->take_outcomes()) ++kinds[outcome.kind];
    EXPECT_EQ(kinds[Kind::Committed] + kinds[Kind::Replaced], 7);
    EXPECT_GE(kinds[Kind::Committed], 2);
    EXPECT_GE(kinds[Kind::Replaced], 3);
    EXPECT_EQ(kinds[Kind::Failed], 0);
    EXPECT_EQ(engine->last_committed(), 7);
  }
  EXPECT_EQ(run.restore_all(memory).value()[0].state.step, 16);
}

/// Listing a folder, the first thing that garbage collection does, waits while this is shut.
class Gate final : public Environment {
 public:
  explicit Gate(Environment& inner) : inner_(inner) {}
  void shut() { open_ = false; }
  void open() {
    open_ = true;
    open_.notify_all();
  }
  Result<std::optional<std::vector<std::string>>> list(const std::filesystem::path& folder) override {
    open_.wait(false);
    return inner_.list(folder);
  }
  Status create_folders(const std::filesystem::path& folder) override { return inner_.create_folders(folder); }
  Result<std::unique_ptr<OutputFile>> create(const std::filesystem::path& path) override { return inner_.create(path); }
  Status rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    return inner_.rename(from, to);
  }
  Status sync_folder(const std::filesystem::path& folder) override { return inner_.sync_folder(folder); }
  Status remove(const std::filesystem::path& path) override { return inner_.remove(path); }
  Result<std::optional<Bytes>> size(const std::filesystem::path& path) override { return inner_.size(path); }
  Status read(const std::filesystem::path& path, Bytes offset, std::span<std::byte> out) override {
    return inner_.read(path, offset, out);
  }
  Result<Bytes> free_space(const std::filesystem::path& folder) override { return inner_.free_space(folder); }

 private:
  Environment& inner_;
  std::atomic<bool> open_ = true;
};

TEST(CheckpointEngine, RanksThatHoldDifferentSnapshotsMeetAtTheNewest) {
  const ToyModel model;
  MemoryEnvironment environment;
  Gate gate(environment);
  ToyRun run(model, 2);
  EngineOptions options = run.options();
  options.retention = Retention{};
  auto engines = run.engines(environment, options, &gate).value();
  gate.shut();
  run.snapshot(engines, 10, all_units(model));
  engines[1]->drain();             // committed; rank 0 stands in its garbage collection
  run.snapshot(engines, 11, {0});  // rank 1 begins to persist it, rank 0 lets it wait
  run.snapshot(engines, 12, {1});  // replaces it on rank 0 alone
  gate.open();
  drain(engines);
  for (const auto& engine : engines) {
    const auto outcomes = engine->take_outcomes();
    ASSERT_EQ(outcomes.size(), 3U);
    std::map<std::int64_t, Kind> kinds;
    for (const CheckpointOutcome& outcome : outcomes) kinds[outcome.step] = outcome.kind;
    EXPECT_EQ(kinds,
              (std::map<std::int64_t, Kind>{{10, Kind::Committed}, {11, Kind::Replaced}, {12, Kind::Committed}}));
  }
  EXPECT_EQ(run.restore_all(environment).value()[0].state.step, 12);
  EXPECT_TRUE(verify_checkpoints(environment, kFolder).value().good());
}

TEST(CheckpointEngine, TrainingWaitsForTheCopyAndNotForStorage) {
  const ToyModel model(4, 1000);
  MemoryEnvironment memory;
  FaultyEnvironment environment(memory, {});
  ToyRun run(model, 1);
  EngineOptions options = run.options();
  options.copy_rate = BytesPerSecond(20e6);
  auto engines = run.engines(environment, options).value();
  environment.hold_appends();
  run.state(0).set_step(10);
  ASSERT_TRUE(engines[0]->begin_snapshot(run.state(0).request(10, all_units(model))).ok());
  EXPECT_TRUE(engines[0]->copying());
  const Result<Duration> stall = engines[0]->finish_snapshot();
  ASSERT_TRUE(stall.ok());
  EXPECT_GT(stall.value(), Duration::zero());
  EXPECT_FALSE(engines[0]->copying());
  environment.release_appends();
  drain(engines);
  const auto outcomes = engines[0]->take_outcomes();
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].stall, stall.value());
  EXPECT_GE(outcomes[0].copy_end - outcomes[0].copy_begin, outcomes[0].copied / *options.copy_rate);
  EXPECT_EQ(engines[0]->finish_snapshot().value(), Duration::zero());
}

TEST(CheckpointEngine, LosingMemoryLosesWhatWasNotCommitted) {
  const ToyModel model;
  MemoryEnvironment memory;
  FaultyEnvironment environment(memory, {});
  ToyRun run(model, 1);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, {0}, {}, false);
  engines[0]->lose_memory();
  EXPECT_EQ(run.memory(0).size(), Bytes(0));
  EXPECT_EQ(run.restore_all(memory, {&run.memory(0)}).value()[0].state.step, 10);
  run.snapshot(engines, 30, {0});  // and it goes on
  drain(engines);
  EXPECT_EQ(run.restore_all(memory).value()[0].state.step, 30);
}

TEST(CheckpointEngine, FilesAreCutAndReadableAsSafetensors) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  EngineOptions options = run.options();
  options.shard_size = Bytes(100);
  options.writer_count = 3;
  auto engines = run.engines(environment, options).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  const CheckpointFolder folder = read_checkpoint_folder(environment, kFolder).value();
  EXPECT_GT(folder.data.size(), 4U);  // more than base and units of either rank
  EXPECT_TRUE(folder.unreferred.empty());
  std::set<std::string> names;
  Bytes stored{0};
  for (const auto& [name, size] : folder.data) {
    const Result<SafetensorsHeader> header = read_header(environment, kFolder / name);
    ASSERT_TRUE(header.ok()) << header.error().text();
    EXPECT_EQ(header->metadata.at("moecast.step"), "10");
    for (const SafetensorsEntry& entry : header->entries) {
      names.insert(entry.name);
      stored += entry.end - entry.begin;
      EXPECT_EQ(entry.name.find('[') != std::string::npos, header->metadata.contains(entry.name)) << entry.name;
    }
  }
  EXPECT_TRUE(names.contains("blocks.1.experts.3.w1.weight"));
  EXPECT_TRUE(names.contains("blocks.0.attention.wqkv.first_moment[0:16]"));
  EXPECT_TRUE(names.contains("blocks.0.attention.wqkv.first_moment[16:32]"));
  Bytes expected{0};  // not one byte twice
  for (const ToyModel::Item& item : model.items()) expected += Bytes(item.count * bytes_per_element(item.dtype));
  EXPECT_EQ(stored, expected);
  EXPECT_EQ(run.restore_all(environment).value()[0].state.step, 10);
}

TEST(CheckpointEngine, AFolderThatIsNotOursIsLeftAlone) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  {
    auto engines = run.engines(environment, run.options()).value();
    run.snapshot(engines, 10, all_units(model));
    drain(engines);
  }
  const auto before = environment.list(kFolder).value().value();

  const ToyModel other(3, 2);
  ToyRun stranger(other, 2);
  const auto refused = stranger.engines(environment, stranger.options());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::BadInput);
  EXPECT_NE(refused.error().message.find("embedding is [7,6] here and [7,3] in the folder"), std::string::npos)
      << refused.error().text();
  const auto restored = stranger.restore_all(environment);
  ASSERT_FALSE(restored.ok());
  EXPECT_NE(restored.error().message.find("another model"), std::string::npos) << restored.error().text();
  EXPECT_EQ(environment.list(kFolder).value().value(), before);

  ASSERT_TRUE(environment.create_folders("home").ok());
  ASSERT_TRUE(write_synced(environment, "home/letter.txt", "dear").ok());
  EngineOptions options = run.options();
  options.folder = "home";
  const auto not_ours = run.engines(environment, options);
  ASSERT_FALSE(not_ours.ok());
  EXPECT_NE(not_ours.error().message.find("letter.txt"), std::string::npos) << not_ours.error().text();
  EXPECT_EQ(environment.list("home").value().value().size(), 1U);
}

TEST(CheckpointEngine, ANewerFormatIsRefusedAndNothingIsWritten) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 1);
  {
    auto engines = run.engines(environment, run.options()).value();
    run.snapshot(engines, 10, all_units(model));
    drain(engines);
  }
  // An intact edit of version 2 beside it.
  std::string text = read_all(environment, kFolder / edit_file_name(1)).value();
  text = text.substr(0, text.find('\n') + 1);
  text.replace(text.find("\"version\":1"), 11, "\"version\":2");
  text += "{\"bytes\":" + std::to_string(text.size()) + ",\"crc32\":\"" + to_hex(crc32_of(bytes_of(text))) + "\"}\n";
  ASSERT_TRUE(write_synced(environment, kFolder / edit_file_name(2), text).ok());
  const auto before = environment.list(kFolder).value().value();
  const auto refused = run.engines(environment, run.options());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::BadInput);
  EXPECT_NE(refused.error().message.find("newer version"), std::string::npos);
  EXPECT_FALSE(run.restore_all(environment).ok());
  EXPECT_FALSE(inspect_checkpoints(environment, kFolder).ok());
  EXPECT_EQ(environment.list(kFolder).value().value(), before);
}

TEST(CheckpointEngine, RestoringFromNothingSaysSo) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  const auto none = run.restore_all(environment);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind, ErrorKind::BadInput);
  ASSERT_TRUE(environment.create_folders(kFolder).ok());
  const auto empty = run.restore_all(environment);
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.error().message.find("there is none"), std::string::npos) << empty.error().text();
}

TEST(CheckpointEngine, WithoutAFirstFullCheckpointUnsavedUnitsStayAsTheyWere) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, {1});
  drain(engines);
  const auto refused = run.restore_all(environment);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("no intact copy"), std::string::npos) << refused.error().text();
  // Their own rank initialises them; the toy's "initial state" is step 0.
  RestoreBounds bounds;
  bounds.initial_units = true;
  for (int rank = 0; rank < 2; ++rank) {
    RestoreOptions options;
    options.folder = kFolder;
    options.model = model.identity();
    options.bounds = bounds;
    run.state(rank).set_step(0);
    const auto report = restore(run.backend(rank), environment, run.clock(), run.state(rank).targets(), options);
    ASSERT_TRUE(report.ok()) << report.error().text();
    run.state(rank).expect(report.value());
    EXPECT_EQ(step_of(report.value(), model.units()[0]), rank == 0 ? 0 : -1);
  }
}

TEST(Inspect, SaysWhatIsThereAndHowOldEachUnitIs) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 2);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, {2});
  drain(engines);
  const Inspection inspection = inspect_checkpoints(environment, kFolder).value();
  EXPECT_EQ(inspection.model, "toy");
  ASSERT_EQ(inspection.edits.size(), 2U);
  EXPECT_TRUE(inspection.edits[0].restorable);
  EXPECT_EQ(inspection.edits[1].unit_count, 1);
  EXPECT_EQ(inspection.edits[1].edit.state.step, 20);
  EXPECT_EQ(inspection.edits[1].edit.layout.data, 2);
  EXPECT_EQ(inspection.newest, 2);
  EXPECT_EQ(inspection.unit_age.at(model.units()[0]), 10);
  EXPECT_EQ(inspection.unit_age.at(model.units()[2]), 0);
  const Verification verification = verify_checkpoints(environment, kFolder).value();
  EXPECT_TRUE(verification.good());
  EXPECT_EQ(verification.checked, inspection.size);
  EXPECT_EQ(verification.checked_files, 7);  // each edit a base of either rank; units of both ranks, then of one
}

TEST(Export, WritesWholeTensorsForOtherPrograms) {
  const ToyModel model;
  MemoryEnvironment environment;
  ToyRun run(model, 3);
  auto engines = run.engines(environment, run.options()).value();
  run.snapshot(engines, 10, all_units(model));
  drain(engines);
  run.snapshot(engines, 20, {2});
  drain(engines);
  ASSERT_TRUE(environment.create_folders("out").ok());
  const auto report = export_checkpoint(environment, kFolder, {}, {Component::Weight}, "out/model.safetensors");
  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_EQ(report->state.step, 20);
  const SafetensorsHeader header = read_header(environment, "out/model.safetensors").value();
  EXPECT_EQ(header.entries.size(), model.identity().tensors.size());
  ToyRank expected(model, 0, 1);
  for (const SafetensorsEntry& entry : header.entries) {
    for (const RestoreTarget& target : expected.targets()) {
      if (target.tensor + ".weight" != entry.name || target.component != Component::Weight) continue;
      expected.set_step(target.unit.empty() || target.unit == model.units()[2] ? 20 : 10);
      std::vector<std::byte> data(static_cast<std::size_t>((entry.end - entry.begin).count()));
      ASSERT_TRUE(environment.read("out/model.safetensors", header.data_begin + entry.begin, data).ok());
      EXPECT_EQ(std::memcmp(data.data(), target.destination.data, data.size()), 0) << entry.name;
    }
  }
}

}  // namespace
}  // namespace moecast::testing
