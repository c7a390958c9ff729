#include "runtime/trainer/fault_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/random.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

const EnumNames<FaultKind> kKinds = {{"kill_rank", FaultKind::KillRank},
                                     {"lose_node", FaultKind::LoseNode},
                                     {"flip_bits", FaultKind::FlipBits},
                                     {"fill_disk", FaultKind::FillDisk},
                                     {"slow_disk", FaultKind::SlowDisk}};
constexpr std::size_t kMaxFaults = 10'000;  // of one entry with "mean_steps"

/// One entry of the file: a fault, and how often it comes.
struct FaultEntry {
  Fault fault;
  std::optional<double> mean_steps;
  bool draws_rank = false;
};

std::vector<std::int64_t> read_ranks(JsonReader& reader, const Fault& fault, std::int64_t rank_count) {
  if (reader.has("ranks")) {
    std::vector<std::int64_t> ranks = reader.integers("ranks", 0, rank_count - 1);
    if (ranks.empty()) reader.problem("ranks", "out-of-range", "at least one rank", "none");
    return ranks;
  }
  if (reader.has("rank")) return {reader.integer("rank", 0, rank_count - 1)};
  if (!fault.kills()) return {};
  reader.problem("rank", "missing-key", "the rank that is concerned");
  return {0};
}

FaultEntry read_fault(JsonReader& reader, std::int64_t rank_count, std::int64_t step_count) {
  FaultEntry entry;
  Fault& fault = entry.fault;
  fault.kind = reader.choice("kind", kKinds);
  if (reader.has("mean_steps")) {
    entry.mean_steps = reader.number("mean_steps", 1, 1e9);
    entry.draws_rank = !reader.has("rank") && !reader.has("ranks");
  } else {
    fault.step = reader.integer("step", 0, step_count);
  }
  if (!entry.draws_rank) fault.ranks = read_ranks(reader, fault, rank_count);
  if (fault.kills()) {
    fault.operator_name = reader.text("operator", "");
  } else {
    fault.step_count = reader.integer("steps", 1, step_count, fault.step_count);
  }
  if (fault.kind == FaultKind::SlowDisk) fault.rate = reader.bytes_per_second("rate");
  return entry;
}

/// The faults of an entry that comes again and again; `entity` tells entries of one run apart.
std::vector<Fault> drawn(const FaultEntry& entry, std::uint64_t entity, std::int64_t rank_count,
                         std::int64_t step_count, std::uint64_t seed) {
  const CounterRandom random(seed, stream_of("faults"));
  std::vector<Fault> faults;
  double at = 0;
  for (std::uint64_t draw = 0; faults.size() < kMaxFaults; draw += 2) {
    at += *entry.mean_steps * random.exponential(entity, draw);
    if (at >= static_cast<double>(step_count)) break;
    faults.push_back(entry.fault);
    faults.back().step = static_cast<std::int64_t>(at);
    if (entry.draws_rank) faults.back().ranks = {random.below(rank_count, entity, draw + 1)};
  }
  return faults;
}

}  // namespace

bool Fault::concerns(Rank rank) const {
  return ranks.empty() || std::ranges::find(ranks, std::int64_t{rank.value()}) != ranks.end();
}

std::string Fault::text() const {
  const std::string who = ranks.empty() ? "all ranks" : fmt::format("rank {}", fmt::join(ranks, ", "));
  const std::string when = fmt::format("step {}", step + 1);
  const std::string where = operator_name.empty() ? when : fmt::format("{} of {}", operator_name, when);
  switch (kind) {
    case FaultKind::KillRank:
      return fmt::format("{} killed at {}", who, where);
    case FaultKind::LoseNode:
      return fmt::format("node of {} lost with its memory at {}", who, where);
    case FaultKind::FlipBits:
      return fmt::format("disk of {} turns bits at {} and the {} after it", who, when, step_count - 1);
    case FaultKind::FillDisk:
      return fmt::format("disk of {} full at {} and the {} after it", who, when, step_count - 1);
    case FaultKind::SlowDisk:
      return fmt::format("disk of {} slow ({}) at {} and the {} after it", who, to_text(rate), when, step_count - 1);
  }
  return {};
}

FaultSchedule::FaultSchedule(std::vector<Fault> faults) {
  for (Fault& fault : faults) entries_.push_back({std::move(fault)});
}

void FaultSchedule::begin(Rank rank, std::int64_t step, const Operator& op) {
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    const Fault& fault = entry.fault;
    if (entry.struck || !fault.kills() || fault.step != step || rank.value() != fault.ranks.front()) continue;
    if (!fault.operator_name.empty() && op.name() != fault.operator_name) continue;
    entry.struck = true;
    killer_ = fault;
    throw InjectedFault("injected fault");
  }
}

std::optional<Fault> FaultSchedule::take_killer() {
  const std::lock_guard lock(mutex_);
  return std::exchange(killer_, std::nullopt);
}

void FaultSchedule::begin_step(Rank rank, std::int64_t step, FaultyEnvironment& environment) {
  const std::lock_guard lock(mutex_);
  StorageFaults due;
  for (const Entry& entry : entries_) {
    const Fault& fault = entry.fault;
    if (!fault.concerns(rank) || step < fault.step) continue;
    if (step >= fault.step + fault.step_count) continue;
    due.flip_all = due.flip_all || fault.kind == FaultKind::FlipBits;
    if (fault.kind == FaultKind::FillDisk) due.capacity = Bytes(0);
    if (fault.kind == FaultKind::SlowDisk) due.rate = fault.rate;
  }
  environment.set_faults(due);
}

std::vector<Fault> read_faults(JsonReader& root, std::int64_t rank_count, std::int64_t step_count, std::uint64_t seed) {
  std::vector<Fault> faults;
  std::uint64_t entity = 0;
  for (JsonReader& reader : root.objects("faults", true)) {
    const FaultEntry entry = read_fault(reader, rank_count, step_count);
    if (!reader.good()) continue;
    const std::vector<Fault> found =
        entry.mean_steps ? drawn(entry, entity, rank_count, step_count, seed) : std::vector<Fault>{entry.fault};
    faults.insert(faults.end(), found.begin(), found.end());
    ++entity;
  }
  return faults;
}

Json to_json(const std::vector<Fault>& faults) {
  Json out = Json::array();
  for (const Fault& fault : faults) {
    Json json = {{"kind", name_of(kKinds, fault.kind)}, {"step", fault.step}};
    if (!fault.ranks.empty()) json["ranks"] = fault.ranks;
    if (!fault.operator_name.empty()) json["operator"] = fault.operator_name;
    if (!fault.kills()) json["steps"] = fault.step_count;
    if (fault.kind == FaultKind::SlowDisk) json["rate"] = to_text(fault.rate);
    out.push_back(std::move(json));
  }
  return out;
}

}  // namespace moecast
