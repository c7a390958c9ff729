#include <algorithm>

#include <nlohmann/json.hpp>

#include "hwprofiles/names.h"
#include "hwprofiles/reliability.h"

namespace moecast {

namespace {

const EnumNames<FailedComponent> kComponents = {
    {"gpu", FailedComponent::Gpu},          {"hbm", FailedComponent::Hbm},       {"nic", FailedComponent::Nic},
    {"host", FailedComponent::Host},        {"switch", FailedComponent::Switch}, {"storage", FailedComponent::Storage},
    {"software", FailedComponent::Software}};
const EnumNames<FailureUnit> kUnits = {{"gpu", FailureUnit::Gpu},
                                       {"node", FailureUnit::Node},
                                       {"rack", FailureUnit::Rack},
                                       {"cluster", FailureUnit::Cluster}};
const EnumNames<FailureEffect> kEffects = {
    {"crash", FailureEffect::Crash}, {"slow", FailureEffect::Slow}, {"corruption", FailureEffect::Corruption}};
const EnumNames<SourceKind> kSourceKinds = {{to_text(SourceKind::Measured), SourceKind::Measured},
                                            {to_text(SourceKind::Datasheet), SourceKind::Datasheet},
                                            {to_text(SourceKind::Published), SourceKind::Published},
                                            {to_text(SourceKind::Assumed), SourceKind::Assumed}};
constexpr double kMost = 1e12;
constexpr double kSecondsPerDay = 86400;

/// Seconds between failures of one unit, from one of three spellings: what was counted, a rate, or the mean itself.
double read_mean_between(JsonReader& reader) {
  const int given = static_cast<int>(reader.has("observed")) + static_cast<int>(reader.has("per_1000_unit_days")) +
                    static_cast<int>(reader.has("mean_between"));
  if (given != 1) {
    reader.problem("", "missing-key", "one of \"observed\", \"per_1000_unit_days\" and \"mean_between\"",
                   fmt::format("{} of them", given));
  }
  if (reader.has("observed")) {
    JsonReader observed = reader.object("observed");
    const double count = observed.number("count", 1e-9, kMost);
    const double units = observed.number("units", 1, kMost);
    return std::max(1e-9, units * seconds(observed.duration("time")) / std::max(count, 1e-9));
  }
  if (reader.has("per_1000_unit_days")) {
    return 1000 * kSecondsPerDay / std::max(1e-12, reader.number("per_1000_unit_days", 1e-9, kMost));
  }
  if (!reader.has("mean_between")) return 1;
  const Duration mean = reader.duration("mean_between");
  if (mean <= Duration::zero()) reader.problem("mean_between", "out-of-range", "a time above zero", to_text(mean));
  return std::max(1e-9, seconds(mean));
}

/// The law of the gaps around their mean: {"law": "weibull", "shape": 0.7}; exponential if absent.
TimeDistribution read_gap_law(JsonReader& mode) {
  enum class Gap { Exponential, Weibull, Lognormal, Empirical };
  if (!mode.has("gaps")) return TimeDistribution::exponential(1);
  JsonReader reader = mode.object("gaps");
  switch (reader.choice<Gap>("law", {{"exponential", Gap::Exponential},
                                     {"weibull", Gap::Weibull},
                                     {"lognormal", Gap::Lognormal},
                                     {"empirical", Gap::Empirical}})) {
    case Gap::Exponential:
      return TimeDistribution::exponential(1);
    case Gap::Weibull:
      return TimeDistribution::weibull(1, std::max(0.05, reader.number("shape", 0.05, 20)));
    case Gap::Lognormal:
      return TimeDistribution::lognormal(1, reader.number("sigma", 0, 10));
    case Gap::Empirical:
      break;
  }
  std::vector<double> values = reader.numbers("relative", 0, kMost);
  double sum = 0;
  for (const double value : values) sum += value;
  if (sum <= 0) {
    if (reader.good())
      reader.problem("relative", "out-of-range", "numbers that are not all zero", "no positive number");
    return TimeDistribution::exponential(1);
  }
  for (double& value : values) value *= static_cast<double>(values.size()) / sum;
  return TimeDistribution::empirical(std::move(values));
}

void read_effect(JsonReader& reader, FailureMode& mode) {
  mode.effect = reader.choice("effect", kEffects, std::optional(FailureEffect::Crash));
  const TimeDistribution never = TimeDistribution::constant(0);
  mode.lasts = mode.latency = never;
  if (mode.effect == FailureEffect::Slow) {
    mode.slow_factor = std::max(1.0, reader.number("slow_factor", 1, 1000));
    mode.lasts = read_distribution(reader, "lasts");
    return;  // nothing is replaced: the reach of a slow unit is the job
  }
  if (mode.effect == FailureEffect::Corruption) mode.latency = read_distribution(reader, "latency");
  const bool software = mode.component == FailedComponent::Software;
  mode.replaced = reader.number("replaced", 0, 1, software ? 0.0 : 1.0);
  mode.reach = reader.choice("reach", kUnits, std::optional(mode.per));
  mode.spreads_to_rack = reader.number("spreads_to_rack", 0, 1, 0.0);
  mode.companion = reader.number("companion", 0, 0.99, 0.0);
  if (reader.has("detection")) mode.detection = read_distribution(reader, "detection");
  if (reader.has("diagnosis")) mode.diagnosis = read_distribution(reader, "diagnosis");
  if (reader.has("repair")) mode.repair = read_distribution(reader, "repair");
}

FailureMode read_mode(JsonReader& reader, std::string name, bool recorded) {
  FailureMode mode;
  mode.name = std::move(name);
  mode.component = reader.choice("component", kComponents);
  mode.per = reader.choice("per", kUnits, std::optional(FailureUnit::Gpu));
  mode.mean_between = recorded ? 0 : read_mean_between(reader);
  mode.gap_law = recorded ? TimeDistribution::exponential(1) : read_gap_law(reader);
  mode.each = !recorded && reader.boolean("each", false);
  read_effect(reader, mode);
  return mode;
}

RecoveryTimes read_recovery(JsonReader& profile) {
  JsonReader reader = profile.object("recovery");
  RecoveryTimes times;
  const TimeDistribution none = TimeDistribution::constant(0);
  times.detection = read_distribution(reader, "detection");
  times.diagnosis = read_distribution(reader, "diagnosis", none);
  times.repair = read_distribution(reader, "repair");
  times.process_start = read_distribution(reader, "process_start");
  times.communicator_fixed = seconds(reader.duration("communicator_fixed", Duration::zero()));
  times.communicator_per_gpu = seconds(reader.duration("communicator_per_gpu", Duration::zero()));
  return times;
}

std::vector<RecordedFailure> read_recorded(JsonReader& profile, const std::vector<FailureMode>& modes) {
  std::vector<RecordedFailure> out;
  for (JsonReader& reader : profile.objects("recorded", true)) {
    RecordedFailure failure;
    failure.at = seconds(reader.duration("at"));
    const std::string name = reader.text("mode");
    const auto found = std::find_if(modes.begin(), modes.end(), [&](const auto& mode) { return mode.name == name; });
    if (found == modes.end()) {
      reader.problem("mode", "unknown-value", "the name of a mode of this profile", name);
    } else {
      failure.mode_index = static_cast<std::size_t>(found - modes.begin());
    }
    failure.unit = reader.integer("unit", 0, static_cast<std::int64_t>(kMost));
    if (!out.empty() && failure.at < out.back().at) {
      reader.problem("at", "out-of-range", "times in ascending order", fmt::format("{} s", failure.at));
    }
    out.push_back(failure);
  }
  return out;
}

std::map<std::string, Source> read_sources(JsonReader& profile) {
  std::map<std::string, Source> out;
  JsonReader sources = profile.object("sources");
  for (const std::string& pointer : sources.keys()) {
    JsonReader reader = sources.object(pointer);
    Source source;
    source.kind = reader.choice("kind", kSourceKinds);
    source.reference = reader.text("reference");
    out[pointer] = source;
  }
  return out;
}

bool has_source(const std::map<std::string, Source>& sources, std::string_view pointer) {
  return std::any_of(sources.begin(), sources.end(), [&](const auto& entry) {
    const std::string& prefix = entry.first;
    return pointer == prefix || (pointer.starts_with(prefix) && pointer[prefix.size()] == '/');
  });
}

}  // namespace

ReliabilityProfile read_reliability(JsonReader& reader) {
  ReliabilityProfile profile;
  profile.name = reader.text("name");
  profile.description = reader.text("description", std::string());
  profile.sources = read_sources(reader);
  const bool recorded = reader.has("recorded");
  JsonReader modes = reader.object("modes");
  for (const std::string& name : modes.keys()) {
    JsonReader mode = modes.object(name);
    profile.modes.push_back(read_mode(mode, name, recorded));
    if (!has_source(profile.sources, "/modes/" + name)) {
      modes.problem(name, "missing-key", fmt::format("an entry \"/modes/{}\" in \"sources\"", name), "none");
    }
  }
  profile.recorded = read_recorded(reader, profile.modes);
  profile.recovery = read_recovery(reader);
  if (!has_source(profile.sources, "/recovery")) {
    reader.problem("recovery", "missing-key", "an entry \"/recovery\" in \"sources\"", "none");
  }
  return profile;
}

Result<ReliabilityProfile> load_reliability(const std::filesystem::path& path) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  ReliabilityProfile profile = read_reliability(reader);
  RETURN_IF_ERROR(reader.finish());
  return profile;
}

namespace {

using Json = nlohmann::ordered_json;

Json gap_json(const TimeDistribution& gap) {
  using Law = TimeDistribution::Law;
  if (gap.law == Law::Weibull) return {{"law", "weibull"}, {"shape", gap.shape}};
  if (gap.law == Law::Lognormal) return {{"law", "lognormal"}, {"sigma", gap.shape}};
  if (gap.law == Law::Empirical) return {{"law", "empirical"}, {"relative", gap.values}};
  return {{"law", "exponential"}};
}

Json mode_json(const FailureMode& mode, bool recorded) {
  Json json = {{"component", name_of(mode.component)}, {"per", name_of(mode.per)}};
  if (!recorded) {
    json["per_1000_unit_days"] = 1000 * kSecondsPerDay / mode.mean_between;
    json["gaps"] = gap_json(mode.gap_law);
    json["each"] = mode.each;
  }
  json["effect"] = name_of(mode.effect);
  if (mode.effect == FailureEffect::Slow) {
    json["slow_factor"] = mode.slow_factor;
    json["lasts"] = to_json(mode.lasts);
    return json;
  }
  if (mode.effect == FailureEffect::Corruption) json["latency"] = to_json(mode.latency);
  json["replaced"] = mode.replaced;
  json["reach"] = name_of(mode.reach);
  json["spreads_to_rack"] = mode.spreads_to_rack;
  json["companion"] = mode.companion;
  if (mode.detection) json["detection"] = to_json(*mode.detection);
  if (mode.diagnosis) json["diagnosis"] = to_json(*mode.diagnosis);
  if (mode.repair) json["repair"] = to_json(*mode.repair);
  return json;
}

}  // namespace

Json to_json(const ReliabilityProfile& profile) {
  Json json = {{"name", profile.name}, {"description", profile.description}};
  for (const auto& [pointer, source] : profile.sources) {
    json["sources"][pointer] = {{"kind", to_text(source.kind)}, {"reference", source.reference}};
  }
  json["modes"] = Json::object();
  const bool recorded = !profile.recorded.empty();
  for (const FailureMode& mode : profile.modes) json["modes"][mode.name] = mode_json(mode, recorded);
  for (const RecordedFailure& failure : profile.recorded) {
    json["recorded"].push_back({{"at", fmt::format("{} s", failure.at)},
                                {"mode", profile.modes[failure.mode_index].name},
                                {"unit", failure.unit}});
  }
  const RecoveryTimes& times = profile.recovery;
  json["recovery"] = {{"detection", to_json(times.detection)},
                      {"diagnosis", to_json(times.diagnosis)},
                      {"repair", to_json(times.repair)},
                      {"process_start", to_json(times.process_start)},
                      {"communicator_fixed", fmt::format("{} s", times.communicator_fixed)},
                      {"communicator_per_gpu", fmt::format("{} s", times.communicator_per_gpu)}};
  return json;
}

}  // namespace moecast
