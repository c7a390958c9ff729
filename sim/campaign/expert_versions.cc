#include "sim/campaign/expert_versions.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "base/random.h"

namespace moecast {

namespace {

/// In tables of saved steps: not saved since the last restore. Far below any step, and room to subtract one.
constexpr std::int32_t kNone = INT32_MIN / 2;

ExpertIndex index_of(const ExpertPlacement& place) {
  std::vector<ExpertIndex::Layer> layers;
  for (std::int64_t i = 0; i < place.layers; ++i) {
    layers.push_back({LayerId(static_cast<std::int32_t>(i)), place.experts_per_layer, 1});
  }
  return ExpertIndex(std::move(layers));
}

bool turns_evenly(const CheckpointPolicy& policy, std::int64_t expert_count) {
  const ExpertCounts& counts = policy.partial.experts;
  return policy.partial.selection == SelectionKind::Sequential && expert_count % counts.snapshot == 0 &&
         counts.snapshot % counts.persist == 0;
}

}  // namespace

ExpertVersions::ExpertVersions(const CampaignScenario& scenario)
    : scenario_(scenario),
      policy_(std::get<CheckpointPolicy>(scenario.policy)),
      place_(scenario.experts),
      rotates_(turns_evenly(policy_, place_.experts_per_layer)),
      two_levels_(policy_.recovers_from_memory()),
      counts_(policy_.partial.experts),
      first_counts_(counts_),
      full_pending_(policy_.partial.first_full) {
  ASSERT(scenario.training.planned_steps() < INT32_MAX / 2, "{} steps", scenario.training.planned_steps());
  fold_layers();
  const auto size = static_cast<std::size_t>(place_.layers * place_.experts_per_layer);
  if (place_.zipf > 0) weight_ = zipf_weights(place_.experts_per_layer, place_.zipf);
  if (rotates_) {
    prepare_rotation();
    return;
  }
  saved_.memory.resize(size);
  saved_.storage.resize(size);
  selections_.emplace(index_of(place_), policy_);
  if (!policy_.partial.first_full) selections_->accept_initial_state();
  constexpr double kResolution = 1 << 20;  // assignments a step of an expert with a fair share
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t expert = i % static_cast<std::size_t>(place_.experts_per_layer);
    const double share = weight_.empty() ? 1 : weight_[expert] * static_cast<double>(place_.experts_per_layer);
    load_.push_back(std::max<std::int64_t>(1, std::llround(share * kResolution)));
  }
}

void ExpertVersions::fold_layers() {
  const std::int64_t layers_per_stage = place_.layers / place_.pipeline;
  std::size_t size = 0;
  for (std::int64_t stage = 0; stage < place_.pipeline; ++stage) {
    std::vector<LayerClass>& classes = classes_.emplace_back();
    for (std::int64_t layer = stage * layers_per_stage; layer < (stage + 1) * layers_per_stage; ++layer) {
      const auto alike = std::find_if(classes.begin(), classes.end(), [&](const LayerClass& other) {
        return rotates_ && row_of(other.layer) == row_of(layer);
      });
      if (alike != classes.end()) {
        ++alike->count;
        begin_of_layer_.push_back(alike->begin);
        continue;
      }
      classes.push_back({layer, 1, size});
      begin_of_layer_.push_back(size);
      size += static_cast<std::size_t>(place_.experts_per_layer);
    }
  }
  lost_.resize(size);
  memory_.resize(size);
  storage_.resize(size);
}

void ExpertVersions::prepare_rotation() {
  const SequentialRotation rotation{place_.experts_per_layer, counts_};
  const auto turns = [&](CheckpointLevel level) {
    std::vector<std::int32_t> out;
    for (std::int32_t e = 0; e < place_.experts_per_layer; ++e) {
      // Within the first period every expert of layer 0 is saved once: at its turn.
      const auto turn = rotation.last_saved(level, 0, ExpertId(e), rotation.period(level) - 1);
      out.push_back(static_cast<std::int32_t>(turn.value()));
    }
    return out;
  };
  memory_turn_ = turns(CheckpointLevel::Memory);
  storage_turn_ = turns(CheckpointLevel::Storage);
  saved_.memory.resize(2 * memory_turn_.size());
  saved_.storage.resize(2 * storage_turn_.size());
}

namespace {

/// Steps at which each place of the ring was saved last, among `count` checkpoints that follow `before` others; the
/// first of them is taken after first_step. `none` where the place had no turn in them. Written twice, so that a ring
/// is a row from any start.
struct Turns {
  std::int64_t before = 0, count = 0;
  std::int32_t first_step = 0, interval = 0, none = kNone;
};
void fill_ring(std::vector<std::int32_t>& out, const std::vector<std::int32_t>& place_turn, std::int64_t period,
               const Turns& turns) {
  const auto n = static_cast<std::ptrdiff_t>(place_turn.size());
  const auto phase = static_cast<std::int32_t>((turns.before + turns.count + period - 1) % period);
  const auto whole = static_cast<std::int32_t>(period);
  const auto count = static_cast<std::int32_t>(std::min<std::int64_t>(turns.count, INT32_MAX));
  const std::int32_t newest_step = turns.first_step + (count - 1) * turns.interval;
  for (std::ptrdiff_t e = 0; e < n; ++e) {
    const std::int32_t turn = place_turn[static_cast<std::size_t>(e)];
    const std::int32_t age = phase - turn + (turn > phase ? whole : 0);
    // Unsigned: where the age is not below the count the product means nothing, and may wrap.
    const auto back =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(age) * static_cast<std::uint32_t>(turns.interval));
    out[static_cast<std::size_t>(e)] = age < count ? newest_step - (age < count ? back : 0) : turns.none;
  }
  std::copy(out.begin(), out.begin() + n, out.begin() + n);
}

}  // namespace

void ExpertVersions::fill_rotation(std::int64_t committed, std::int64_t interval) {
  // The first checkpoint of a run is full and is no turn of the rotation.
  const bool full = full_pending_ && committed > 0;
  Turns turns;
  turns.before = turns_;
  turns.count = committed - (full ? 1 : 0);
  turns.interval = static_cast<std::int32_t>(interval);
  turns.first_step = static_cast<std::int32_t>((base_step_ / interval + (full ? 2 : 1)) * interval);
  turns.none = full ? turns.first_step - turns.interval : kNone;
  fill_ring(saved_.memory, memory_turn_, place_.experts_per_layer / counts_.snapshot, turns);
  fill_ring(saved_.storage, storage_turn_, place_.experts_per_layer / counts_.persist, turns);
  turns_ += turns.count;
}

/// Makes the selections of the checkpoints since the last restore, as the runtime would have made them.
void ExpertVersions::replay_selections(std::int64_t step, std::int64_t interval) {
  std::vector<std::int64_t> tokens(load_.size());
  for (std::int64_t at = (base_step_ / interval + 1) * interval; at <= step; at += interval) {
    for (std::size_t i = 0; i < load_.size(); ++i) tokens[i] = at * load_[i];
    const Selection selection = select_experts(policy_, counts_, *selections_, tokens);
    selections_->commit(CheckpointLevel::Memory, selection, at, tokens);
    selections_->commit(CheckpointLevel::Storage, selection, at, tokens);
  }
  const auto newest = [&](CheckpointLevel level, std::vector<std::int32_t>& out) {
    const auto versions = selections_->versions(level);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const bool since = versions[i] && versions[i]->step > base_step_;
      out[i] = since ? static_cast<std::int32_t>(versions[i]->step) : kNone;
    }
  };
  newest(CheckpointLevel::Storage, saved_.storage);
  newest(two_levels_ ? CheckpointLevel::Memory : CheckpointLevel::Storage, saved_.memory);
}

std::size_t ExpertVersions::row_of(std::int64_t layer) const {
  const std::int64_t n = place_.experts_per_layer;
  if (!rotates_) return static_cast<std::size_t>(layer * n);
  const std::int64_t ahead = (layer * first_counts_.snapshot + cursor_) % n;
  return static_cast<std::size_t>((n - ahead) % n);
}

std::vector<bool> ExpertVersions::lost_positions(std::int64_t stage, std::span<const std::int64_t> lost) const {
  std::vector<bool> out(static_cast<std::size_t>(place_.expert_parallel));
  const CampaignCluster& cluster = scenario_.cluster;
  const std::int64_t gpus_per_stage = cluster.gpus / place_.pipeline;
  for (const std::int64_t node : lost) {
    const std::int64_t end = std::min(cluster.gpus, (node + 1) * cluster.gpus_per_node);
    for (std::int64_t gpu = node * cluster.gpus_per_node; gpu < end; ++gpu) {
      if (gpu / gpus_per_stage != stage) continue;
      out[static_cast<std::size_t>(gpu % gpus_per_stage % place_.expert_parallel)] = true;
    }
  }
  return out;
}

std::vector<ExpertVersions::Segment> ExpertVersions::segments(std::int64_t stage,
                                                              std::span<const std::int64_t> lost) const {
  if (!two_levels_ || lost.empty()) return {{0, place_.experts_per_layer, two_levels_}};
  const std::int64_t experts_per_position = place_.experts_per_layer / place_.expert_parallel;
  std::vector<Segment> out;
  std::int64_t at = 0;
  for (const bool gone : lost_positions(stage, lost)) {
    if (!out.empty() && out.back().in_memory == !gone) {
      out.back().end += experts_per_position;
    } else {
      out.push_back({at, at + experts_per_position, !gone});
    }
    at += experts_per_position;
  }
  return out;
}

double ExpertVersions::lost_share(std::span<const std::int64_t> lost) const {
  std::int64_t gone = 0;
  for (std::int64_t stage = 0; stage < place_.pipeline && !lost.empty(); ++stage) {
    const std::vector<bool> positions = lost_positions(stage, lost);
    gone += std::count(positions.begin(), positions.end(), true);
  }
  return static_cast<double>(gone) / static_cast<double>(place_.expert_parallel * place_.pipeline);
}

namespace {

/// What restore_segment reads and writes: rows of one layer from the segment's first expert.
struct ExpertRow {
  const std::int32_t* saved_memory;
  const std::int32_t* saved_storage;
  std::int32_t* lost;
  std::int32_t* memory;
  std::int32_t* storage;
};

/// Brings the contents up to date, restores each expert at `step`, and returns the sum of the steps that
/// are lost by this, and puts those of each into `undone` (kKeepEach). A version saved since the last restore holds
/// more than any before, so the larger content is the newer; kNone less lost steps is below every content. Contents are
/// capped at what is live at `step`: newer than that cannot be. The hot loop of a campaign: branch-free, so that it
/// becomes vector code.
template <bool kInMemory, bool kKeepEach>
[[gnu::always_inline]] inline std::uint64_t restore_loop(const ExpertRow& row, std::int64_t count, std::int32_t step,
                                                         std::uint32_t* __restrict undone) {
  const auto larger = [](std::int32_t a, std::int32_t b) { return a > b ? a : b; };
  const auto smaller = [](std::int32_t a, std::int32_t b) { return a < b ? a : b; };
  const std::int32_t* const __restrict saved_memory = row.saved_memory;
  const std::int32_t* const __restrict saved_storage = row.saved_storage;
  std::int32_t* const __restrict lost = row.lost;
  std::int32_t* const __restrict memory = row.memory;
  std::int32_t* const __restrict storage = row.storage;
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t live = step - lost[i];
    const std::int32_t stored = smaller(live, larger(saved_storage[i] - lost[i], storage[i]));
    std::int32_t kept = stored;
    if (kInMemory) kept = larger(stored, smaller(live, larger(saved_memory[i] - lost[i], memory[i])));
    storage[i] = stored;
    memory[i] = kept;  // a node that comes back holds what it loaded
    lost[i] = step - kept;
    const auto steps = static_cast<std::uint32_t>(live - kept);
    if (kKeepEach) undone[i] = steps;
    sum += steps;
  }
  return sum;
}

[[gnu::always_inline]] inline std::uint64_t restore_rows(const ExpertRow& row, std::int64_t count, std::int32_t step,
                                                         bool in_memory, std::uint32_t* undone) {
  if (undone == nullptr) {
    return in_memory ? restore_loop<true, false>(row, count, step, undone)
                     : restore_loop<false, false>(row, count, step, undone);
  }
  return in_memory ? restore_loop<true, true>(row, count, step, undone)
                   : restore_loop<false, true>(row, count, step, undone);
}

/// The same loops twice: integers, so the instruction set changes the time and nothing else (half of it with AVX2,
/// which has minimum and maximum of 32-bit lanes).
std::uint64_t restore_plain(const ExpertRow& row, std::int64_t count, std::int32_t step, bool in_memory,
                            std::uint32_t* undone) {
  return restore_rows(row, count, step, in_memory, undone);
}
[[gnu::target("avx2")]] std::uint64_t restore_avx2(const ExpertRow& row, std::int64_t count, std::int32_t step,
                                                   bool in_memory, std::uint32_t* undone) {
  return restore_rows(row, count, step, in_memory, undone);
}
std::uint64_t restore_segment(const ExpertRow& row, std::int64_t count, std::int32_t step, bool in_memory,
                              std::uint32_t* undone) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  return (has_avx2 ? restore_avx2 : restore_plain)(row, count, step, in_memory, undone);
}

}  // namespace

double ExpertVersions::restore_layer(const LayerClass& layer, std::int64_t step, std::span<const Segment> segments) {
  constexpr std::int64_t kBlock = 512;
  std::uint32_t undone[kBlock];
  const std::size_t first = layer.begin;
  const std::size_t row = row_of(layer.layer);
  const auto at = static_cast<std::int32_t>(step);
  std::uint64_t sum = 0;
  double weighted = 0;
  for (const Segment& segment : segments) {
    for (std::int64_t begin = segment.begin; begin < segment.end; begin += kBlock) {
      const std::int64_t count = std::min(kBlock, segment.end - begin);
      const auto e = static_cast<std::size_t>(begin);
      const ExpertRow rows{&saved_.memory[row + e], &saved_.storage[row + e], &lost_[first + e], &memory_[first + e],
                           &storage_[first + e]};
      sum += restore_segment(rows, count, at, segment.in_memory, weight_.empty() ? nullptr : undone);
      for (std::int64_t i = 0; i < count && !weight_.empty(); ++i) {
        weighted += weight_[e + static_cast<std::size_t>(i)] * static_cast<double>(undone[i]);
      }
    }
  }
  const auto count = static_cast<double>(layer.count);
  return count *
         (weight_.empty() ? static_cast<double>(sum) / static_cast<double>(place_.experts_per_layer) : weighted);
}

/// The host memory of these nodes is empty: for the selection policy, its experts' newest version is storage's.
void ExpertVersions::forget_lost_memory(std::span<const std::int64_t> lost) {
  const auto in_memory = selections_->versions(CheckpointLevel::Memory);
  const auto on_storage = selections_->versions(CheckpointLevel::Storage);
  std::vector<std::optional<SavedVersion>> left(in_memory.begin(), in_memory.end());
  const std::int64_t layers_per_stage = place_.layers / place_.pipeline;
  for (std::int64_t layer = 0; layer < place_.layers; ++layer) {
    for (const Segment& segment : segments(layer / layers_per_stage, lost)) {
      for (std::int64_t e = segment.begin; e < segment.end && !segment.in_memory; ++e) {
        const auto i = static_cast<std::size_t>(layer * place_.experts_per_layer + e);
        left[i] = on_storage[i];
      }
    }
  }
  selections_->set_versions(CheckpointLevel::Memory, std::move(left));
}

double ExpertVersions::restore(std::int64_t step, std::int64_t interval, std::span<const std::int64_t> lost) {
  ASSERT(interval > 0, "interval {}", interval);
  const std::int64_t committed = std::max<std::int64_t>(0, step / interval - base_step_ / interval);
  if (rotates_) {
    fill_rotation(committed, interval);
  } else {
    replay_selections(step, interval);
  }
  double undone = 0;
  for (std::int64_t stage = 0; stage < place_.pipeline; ++stage) {
    const std::vector<Segment> of_stage = segments(stage, lost);
    for (const LayerClass& layer : classes_[static_cast<std::size_t>(stage)]) {
      undone += restore_layer(layer, step, of_stage);
    }
  }
  if (!rotates_ && two_levels_ && !lost.empty()) forget_lost_memory(lost);
  if (committed > 0) full_pending_ = false;
  base_step_ = step;
  return undone / static_cast<double>(place_.layers * scenario_.training.planned_steps());
}

void ExpertVersions::change_counts(ExpertCounts counts) {
  if (rotates_) {  // the layers' cursors stay where the turns so far have brought them
    cursor_ = (cursor_ + turns_ % place_.experts_per_layer * counts_.snapshot) % place_.experts_per_layer;
    turns_ = 0;
  }
  counts_ = counts;
  if (rotates_) prepare_rotation();
}

std::int64_t ExpertVersions::lost_steps(std::int64_t layer, std::int64_t expert) const {
  return lost_[begin_of_layer_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)];
}

}  // namespace moecast
