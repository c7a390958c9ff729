#include "sim/campaign/failure_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {

namespace {
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kLatest = 9e9;  // seconds; no campaign is longer

// Draws of one failure: each trait has its own number, so that a new trait moves no other.
enum Trait : std::uint64_t { kUnit, kReplaced, kSpread, kCompanion, kDetection, kDiagnosis, kRepair, kLasts, kLatency };
constexpr std::uint64_t kTraitCount = 32;
}  // namespace

// Entities: 2^16 sources a replica.
FailureStream::FailureStream(const CampaignScenario& scenario, std::int64_t replica)
    : scenario_(&scenario),
      entity_(static_cast<std::uint64_t>(replica) << 16),
      gaps_(scenario.seed, stream_of("campaign.failure.gaps")),
      traits_(scenario.seed, stream_of("campaign.failure.traits")) {
  const ReliabilityProfile& profile = scenario.reliability;
  const CampaignCluster& cluster = scenario.cluster;
  for (std::size_t i = 0; i < profile.modes.size(); ++i) {
    const FailureMode& mode = profile.modes[i];
    if (mode.mean_between <= 0) continue;
    Source source;
    source.mode_index = i;
    source.units = unit_count(mode.per, cluster.gpus, cluster.nodes(), cluster.racks());
    sources_.push_back(std::move(source));
  }
  if (scenario.clock == FailureClock::Wall) {
    for (Source& source : sources_) begin(source, 0);
    refill();
  }
}

double FailureStream::gap(Source& source) {
  const FailureMode& mode = scenario_->reliability.modes[source.mode_index];
  const double hazard = gaps_.exponential(entity_ | source.mode_index, source.gap_draw++);
  const double mean = mode.each ? mode.mean_between : mode.mean_between / static_cast<double>(source.units);
  return mean * mode.gap_law.at_hazard(hazard);
}

/// Units that fail one by one: the smallest of n standard exponential numbers is exponential with mean 1/n, and each
/// next one follows the one before by an exponential number with mean 1/(n - i) (Renyi, 1953). The cumulative hazard of
/// the untouched units takes these values, so only failures that come are drawn, not one number for each of 100,000
/// units.
void FailureStream::choose_each(Source& source) {
  source.next = source.again.empty() ? kNever : source.again.top().first;
  if (source.untouched > 0) source.next = std::min(source.next, source.first_untouched);
}

void FailureStream::begin(Source& source, double now) {
  const FailureMode& mode = scenario_->reliability.modes[source.mode_index];
  if (!mode.each) {
    source.next = now + gap(source);
    return;
  }
  source.untouched = source.units;
  source.hazard = gaps_.exponential(entity_ | source.mode_index, source.gap_draw++) / static_cast<double>(source.units);
  source.first_untouched = now + mode.mean_between * mode.gap_law.at_hazard(source.hazard);
  choose_each(source);
}

void FailureStream::step(Source& source) {
  const FailureMode& mode = scenario_->reliability.modes[source.mode_index];
  if (!mode.each) {
    source.next += gap(source);
    return;
  }
  const double now = source.next;
  if (!source.again.empty() && source.again.top().first == now) {
    const std::int64_t unit = source.again.top().second;
    source.again.pop();
    source.again.emplace(now + gap(source), unit);
  } else {
    // Which of the untouched units it was does not matter for the times; `draw` names one at random.
    --source.untouched;
    source.again.emplace(now + gap(source), source.next_unit);
    if (source.untouched > 0) {
      source.hazard +=
          gaps_.exponential(entity_ | source.mode_index, source.gap_draw++) / static_cast<double>(source.untouched);
      source.first_untouched = mode.mean_between * mode.gap_law.at_hazard(source.hazard);
    }
  }
  choose_each(source);
}

void FailureStream::draw_reach(const FailureMode& mode, std::int64_t unit, Failure& failure) const {
  const CampaignCluster& cluster = scenario_->cluster;
  const std::uint64_t first_draw = ordinal_ * kTraitCount;
  const std::int64_t nodes = cluster.nodes();
  std::int64_t node = 0;
  if (mode.per == FailureUnit::Gpu) node = unit / cluster.gpus_per_node;
  if (mode.per == FailureUnit::Node) node = unit;
  if (mode.per == FailureUnit::Rack) node = unit * cluster.nodes_per_rack;
  node = std::min(node, nodes - 1);
  const bool whole_rack =
      mode.reach == FailureUnit::Rack ||
      (mode.spreads_to_rack > 0 && traits_.uniform(entity_, first_draw + kSpread) < mode.spreads_to_rack);
  failure.nodes = {node, 1};
  if (whole_rack) {
    const std::int64_t first = node / cluster.nodes_per_rack * cluster.nodes_per_rack;
    failure.nodes = {first, std::min(cluster.nodes_per_rack, nodes - first)};
  }
  if (mode.reach == FailureUnit::Cluster) failure.nodes = {0, nodes};
  for (std::size_t i = 0; mode.companion > 0 && i < Failure::kMostCompanions; ++i) {
    const std::uint64_t draw = first_draw + kTraitCount / 2 + 2 * i;
    if (traits_.uniform(entity_, draw) >= mode.companion) break;
    failure.companions[failure.companion_count++] = traits_.below(nodes, entity_, draw + 1);
  }
}

Failure FailureStream::draw(const Source& source, double at) const {
  const ReliabilityProfile& profile = scenario_->reliability;
  const FailureMode& mode = profile.modes[source.mode_index];
  const std::uint64_t first_draw = ordinal_ * kTraitCount;
  const auto drawn = [&](const TimeDistribution& time, Trait trait) {
    if (time.law == TimeDistribution::Law::Constant) return duration_from_seconds(time.mean);
    return duration_from_seconds(std::min(kLatest, time.at_hazard(traits_.exponential(entity_, first_draw + trait))));
  };
  Failure failure;
  failure.at = Instant(duration_from_seconds(std::min(at, kLatest)));
  failure.mode_index = source.mode_index;
  failure.unit = source.next_unit;
  if (mode.effect == FailureEffect::Slow) {
    failure.lasts = drawn(mode.lasts, kLasts);
    return failure;
  }
  draw_reach(mode, failure.unit, failure);
  failure.replaced =
      mode.replaced >= 1 || (mode.replaced > 0 && traits_.uniform(entity_, first_draw + kReplaced) < mode.replaced);
  failure.detection = drawn(mode.detection.value_or(profile.recovery.detection), kDetection);
  failure.diagnosis = drawn(mode.diagnosis.value_or(profile.recovery.diagnosis), kDiagnosis);
  if (failure.replaced) failure.repair = drawn(mode.repair.value_or(profile.recovery.repair), kRepair);
  if (mode.effect == FailureEffect::Corruption) failure.latency = drawn(mode.latency, kLatency);
  return failure;
}

/// Sets next_ to the earliest failure of all sources; ties go to the earlier mode.
void FailureStream::refill() {
  has_next_ = false;
  const std::vector<RecordedFailure>& recorded = scenario_->reliability.recorded;
  if (!recorded.empty()) {
    if (recorded_next_ == recorded.size()) return;
    const RecordedFailure& entry = recorded[recorded_next_++];
    Source source;
    source.mode_index = entry.mode_index;
    source.next_unit = entry.unit;
    next_ = draw(source, entry.at);
    has_next_ = true;
    ++ordinal_;
    return;
  }
  const auto earliest = std::min_element(sources_.begin(), sources_.end(),
                                         [](const Source& a, const Source& b) { return a.next < b.next; });
  if (earliest == sources_.end() || earliest->next > kLatest) return;
  const FailureMode& mode = scenario_->reliability.modes[earliest->mode_index];
  const bool known = mode.each && !earliest->again.empty() && earliest->again.top().first == earliest->next;
  earliest->next_unit =
      known ? earliest->again.top().second : traits_.below(earliest->units, entity_, ordinal_ * kTraitCount + kUnit);
  next_ = draw(*earliest, earliest->next);
  source_of_next_ = static_cast<std::size_t>(earliest - sources_.begin());
  has_next_ = true;
  ++ordinal_;
}

void FailureStream::pop() {
  ASSERT(has_next_, "no failure to pop");
  if (scenario_->reliability.recorded.empty()) step(sources_[source_of_next_]);
  refill();
}

void FailureStream::halt() {
  ASSERT(scenario_->clock == FailureClock::Fresh, "failure clocks run on");
  has_next_ = false;
}

void FailureStream::restart(Instant now) {
  ASSERT(scenario_->clock == FailureClock::Fresh, "failure clocks run on");
  for (Source& source : sources_) begin(source, seconds(now.time_since_epoch()));
  refill();
}

std::vector<Failure> draw_failures(const CampaignScenario& scenario, std::int64_t replica, Instant until) {
  ASSERT(scenario.clock == FailureClock::Wall, "a fresh clock depends on the job");
  std::vector<Failure> out;
  FailureStream stream(scenario, replica);
  for (; stream.peek() != nullptr && stream.peek()->at < until; stream.pop()) out.push_back(*stream.peek());
  return out;
}

std::string failure_table(const CampaignScenario& scenario, const std::vector<Failure>& failures) {
  std::string out = fmt::format("{:>12}  {:<28} {:<11} {:>8}  {:<14} {:<9} {:>10} {:>10}\n", "at", "mode", "effect",
                                "unit", "nodes", "memory", "detection", "repair");
  for (const Failure& failure : failures) {
    const FailureMode& mode = scenario.reliability.modes[failure.mode_index];
    std::string nodes = failure.nodes.count == 0 ? "-"
                        : failure.nodes.count == 1
                            ? fmt::format("{}", failure.nodes.first)
                            : fmt::format("{}-{}", failure.nodes.first, failure.nodes.first + failure.nodes.count - 1);
    for (std::size_t i = 0; i < failure.companion_count; ++i) nodes += fmt::format(" {}", failure.companions[i]);
    out += fmt::format("{:>10.3f} h  {:<28} {:<11} {:>8}  {:<14} {:<9} {:>10} {:>10}\n",
                       seconds(failure.at.time_since_epoch()) / 3600, mode.name, name_of(mode.effect), failure.unit,
                       nodes, failure.replaced ? "lost" : "kept", pretty(failure.detection + failure.diagnosis),
                       pretty(failure.repair));
  }
  return out;
}

}  // namespace moecast
