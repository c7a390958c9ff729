#include "tests/runtime/checkpoint_testing.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast::testing {

namespace {

/// What an element is after a step. The bytes need be no numbers.
std::uint64_t element(const ToyModel::Item& item, std::int64_t index, std::int64_t step) {
  const std::uint64_t name = stream_of(item.tensor) + static_cast<std::uint64_t>(item.component);
  std::uint64_t value = (name ^ (static_cast<std::uint64_t>(index) * 0x9E3779B97F4A7C15ULL)) +
                        static_cast<std::uint64_t>(step) * 0xD1B54A32D192ED03ULL;
  value ^= value >> 29;
  return value * 0xBF58476D1CE4E5B9ULL;
}

void fill(const ToyModel::Item& item, std::vector<std::byte>& bytes, std::int64_t step) {
  const std::size_t size = static_cast<std::size_t>(bytes_per_element(item.dtype));
  for (std::int64_t i = 0; i < item.count; ++i) {
    const std::uint64_t value = element(item, i, step);
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * size, &value, size);
  }
}

}  // namespace

ToyModel::ToyModel(std::int64_t unit_count, std::int64_t scale) {
  const auto add = [&](const std::string& tensor, std::vector<std::int64_t> shape, const std::string& unit) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    items_.push_back({tensor, Component::Weight, DType::BF16, shape, count, unit});
    items_.push_back({tensor, Component::FirstMoment, DType::F32, shape, count, unit});
  };
  add("embedding", {7, 3 * scale}, "");
  add("blocks.0.attention.wqkv", {4, 8 * scale}, "");
  for (std::int64_t u = 0; u < unit_count; ++u) {
    units_.push_back(fmt::format("blocks.1.experts.{}", u));
    add(units_.back() + ".w1", {2, 5 * scale}, units_.back());
    add(units_.back() + ".b1", {3}, units_.back());
  }
}

ModelIdentity ToyModel::identity() const {
  ModelIdentity identity = {"toy", {}};
  for (const Item& item : items_) {
    if (item.component == Component::Weight) identity.tensors.push_back({item.tensor, item.shape});
  }
  return identity;
}

ToyRank::ToyRank(const ToyModel& model, int rank, int ranks, bool replicas)
    : model_(model), rank_(rank), ranks_(ranks), replicas_(replicas) {
  for (const ToyModel::Item& item : model.items()) {
    if (!owns(item.unit)) continue;
    data_.push_back(
        {item, std::vector<std::byte>(static_cast<std::size_t>(item.count * bytes_per_element(item.dtype)))});
  }
}

bool ToyRank::owns(const std::string& unit) const {
  if (unit.empty() || replicas_) return true;
  const auto found = std::ranges::find(model_.units(), unit);
  return (found - model_.units().begin()) % ranks_ == rank_;
}

void ToyRank::set_step(std::int64_t step) {
  for (Data& data : data_) fill(data.item, data.bytes, step);
}

void ToyRank::clear() {
  for (Data& data : data_) std::ranges::fill(data.bytes, std::byte{0});
}

SnapshotRequest ToyRank::request(std::int64_t step, const std::set<std::size_t>& chosen,
                                 const std::set<std::size_t>& memory_only) {
  SnapshotRequest request;
  request.state.step = step;
  request.state.data_position = step * 100;
  request.state.random_state = "seed 1";
  request.state.policy = "{}";
  for (Data& data : data_) {
    const auto unit = std::ranges::find(model_.units(), data.item.unit);
    const auto index = static_cast<std::size_t>(unit - model_.units().begin());
    if (!data.item.unit.empty() && !chosen.contains(index)) continue;
    const bool shared = data.item.unit.empty() || replicas_;
    const ElementRange range = shared ? even_share(data.item.count, ranks_, rank_) : ElementRange{0, data.item.count};
    const Tensor source(data.bytes.data() + range.begin * bytes_per_element(data.item.dtype), data.item.dtype,
                        {range.count()});
    request.slices.push_back({data.item.tensor, data.item.component, data.item.shape, range, data.item.unit, source,
                              memory_only.contains(index) ? CheckpointLevel::Memory : CheckpointLevel::Storage});
  }
  return request;
}

std::vector<RestoreTarget> ToyRank::targets() {
  std::vector<RestoreTarget> targets;
  for (Data& data : data_) {
    targets.push_back({data.item.tensor,
                       data.item.component,
                       {0, data.item.count},
                       data.item.unit,
                       Tensor(data.bytes.data(), data.item.dtype, {data.item.count})});
  }
  return targets;
}

bool ToyRank::is_at(const std::string& unit, std::int64_t step) const {
  return std::ranges::all_of(data_, [&](const Data& data) {
    if (data.item.unit != unit) return true;
    std::vector<std::byte> expected = data.bytes;
    fill(data.item, expected, step);
    return expected == data.bytes;
  });
}

void ToyRank::expect(const RestoreReport& report) const {
  EXPECT_EQ(report.state.data_position, report.state.step * 100);
  EXPECT_TRUE(is_at("", report.state.step)) << "rank " << rank_;
  std::size_t owned = 0;
  for (const std::string& unit : model_.units()) owned += owns(unit) ? 1 : 0;
  EXPECT_EQ(report.units.size(), owned);
  for (const RestoredUnit& unit : report.units) {
    EXPECT_TRUE(is_at(unit.unit, unit.step)) << "rank " << rank_ << " " << unit.unit;
    EXPECT_EQ(unit.age, report.state.step - unit.step);
    EXPECT_LE(unit.version, report.version);
  }
}

ToyRun::ToyRun(const ToyModel& model, int ranks, bool replicas) : model_(model) {
  for (int rank = 0; rank < ranks; ++rank) {
    states_.emplace_back(model, rank, ranks, replicas);
    backends_.push_back(make_cpu_backend());
    memories_.push_back(std::make_unique<SnapshotMemory>(*backends_.back()));
  }
}

EngineOptions ToyRun::options() const {
  EngineOptions options;
  options.folder = kFolder;
  options.model = model_.identity();
  options.layout.data = static_cast<std::int64_t>(states_.size());
  options.retention = std::nullopt;
  return options;
}

void ToyRun::on_ranks(const std::function<void(int)>& run) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks(); ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
}

Result<std::vector<std::unique_ptr<CheckpointEngine>>> ToyRun::engines(Environment& environment,
                                                                       const EngineOptions& options,
                                                                       Environment* of_rank_0) {
  storage_ = make_inproc_group(ranks(), {}, "storage");
  std::vector<std::unique_ptr<CheckpointEngine>> engines(states_.size());
  std::vector<std::optional<Error>> errors(states_.size());
  on_ranks([&](int rank) {
    auto engine = CheckpointEngine::make(backend(rank), rank == 0 && of_rank_0 != nullptr ? *of_rank_0 : environment,
                                         memory(rank), storage_[static_cast<std::size_t>(rank)].get(), clock_, options);
    if (engine.ok()) {
      engines[static_cast<std::size_t>(rank)] = std::move(engine).value();
    } else {
      errors[static_cast<std::size_t>(rank)] = engine.error();
    }
  });
  for (const std::optional<Error>& error : errors) {
    if (error) return *error;
  }
  return engines;
}

Result<std::vector<RestoreReport>> ToyRun::restore_all(Environment& environment,
                                                       const std::vector<const SnapshotMemory*>& memories,
                                                       const RestoreBounds& bounds,
                                                       const std::filesystem::path& folder) {
  const auto group = make_inproc_group(ranks(), {}, "restore");
  std::vector<RestoreReport> reports(states_.size());
  std::vector<std::optional<Error>> errors(states_.size());
  on_ranks([&](int rank) {
    RestoreOptions options;
    options.folder = folder;
    options.model = model_.identity();
    options.memories = memories;
    options.communicator = group[static_cast<std::size_t>(rank)].get();
    options.units = model_.units();
    options.bounds = bounds;
    state(rank).clear();
    const auto report = restore(backend(rank), environment, clock_, state(rank).targets(), options);
    if (report.ok()) {
      reports[static_cast<std::size_t>(rank)] = report.value();
    } else {
      errors[static_cast<std::size_t>(rank)] = report.error();
    }
  });
  for (const std::optional<Error>& error : errors) {
    if (error) return *error;
  }
  for (int rank = 0; rank < ranks(); ++rank) {
    state(rank).expect(reports[static_cast<std::size_t>(rank)]);
    EXPECT_EQ(reports[static_cast<std::size_t>(rank)].version, reports[0].version);
  }
  return reports;
}

void ToyRun::snapshot(std::vector<std::unique_ptr<CheckpointEngine>>& engines, std::int64_t step,
                      const std::set<std::size_t>& chosen, const std::set<std::size_t>& memory_only, bool persist) {
  for (int rank = 0; rank < ranks(); ++rank) {
    state(rank).set_step(step);
    SnapshotRequest request = state(rank).request(step, chosen, memory_only);
    request.persist = persist;
    const Status begun = engines[static_cast<std::size_t>(rank)]->begin_snapshot(request);
    ASSERT_TRUE(begun.ok()) << begun.error().text();
  }
  for (int rank = 0; rank < ranks(); ++rank) {
    const Result<Duration> stall = engines[static_cast<std::size_t>(rank)]->finish_snapshot();
    ASSERT_TRUE(stall.ok()) << stall.error().text();
    state(rank).set_step(step + 999);  // the copy is done: later updates must not reach it
  }
}

void drain(std::vector<std::unique_ptr<CheckpointEngine>>& engines) {
  for (const auto& engine : engines) engine->drain();
}

std::set<std::size_t> all_units(const ToyModel& model) {
  std::set<std::size_t> all;
  for (std::size_t u = 0; u < model.units().size(); ++u) all.insert(u);
  return all;
}

}  // namespace moecast::testing
