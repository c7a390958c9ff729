#include "hwprofiles/import_nccl.h"

#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/statistics.h"
#include "hwprofiles/sources.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// Times in microseconds by collective, ranks and bytes.
using Times = std::map<std::tuple<Collective, std::int64_t, std::int64_t>, std::vector<double>>;

/// By the program of nccl-tests and by the name in Inspector's lines; lower case, letters only.
std::optional<Collective> collective_of(std::string name) {
  std::erase_if(name, [](unsigned char c) { return std::isalpha(c) == 0; });
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (name.ends_with("perf")) name.resize(name.size() - 4);
  static const std::map<std::string, Collective> kNames = {
      {"alltoall", Collective::AllToAll},           {"allreduce", Collective::AllReduce},
      {"reducescatter", Collective::ReduceScatter}, {"allgather", Collective::AllGather},
      {"broadcast", Collective::Broadcast},         {"sendrecv", Collective::PointToPoint}};
  const auto found = kNames.find(name);
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

double number_or(const Json& object, const char* key, double fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : fallback;
}

std::string text_or(const Json& object, const char* key, const std::string& fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

Error not_a_collective(const fs::path& path, const std::string& name) {
  return Error{ErrorKind::BadInput, path.string(),
               fmt::format("\"{}\" is no collective that a profile knows (alltoall, all_reduce, reduce_scatter, "
                           "all_gather, broadcast, sendrecv)",
                           name)};
}

/// Time of one direction of one result; 0 if it was not run or failed its check.
double time_of(const Json& result, const char* place) {
  const auto found = result.find(place);
  if (found == result.end() || !found->is_object()) return 0;
  if (number_or(*found, "nwrong", 0) > 0) return 0;
  return number_or(*found, "time", number_or(*found, "cpu_time", 0));
}

/// `devices` has one entry for each process, which has nthreads x ngpus ranks.
std::int64_t rank_count(const Json& config) {
  const auto devices = config.find("devices");
  const double processes = devices != config.end() && devices->is_array() ? static_cast<double>(devices->size()) : 1;
  return static_cast<std::int64_t>(processes * number_or(config, "nthreads", 1) * number_or(config, "ngpus", 1));
}

Result<std::string> read_nccl_tests(const fs::path& path, const Json& document, Times& times) {
  const auto args = document.find("args");
  const bool named = args != document.end() && args->is_array() && !args->empty() && args->front().is_string();
  const std::string program = named ? fs::path(args->front().get<std::string>()).filename().string() : "";
  const std::optional<Collective> collective = collective_of(program);
  if (!collective) return not_a_collective(path, program);
  const std::int64_t ranks = rank_count(document.value("config", Json::object()));
  for (const Json& result : document.at("results")) {
    if (!result.is_object()) continue;
    const double out_of_place = time_of(result, "out_of_place");
    const double time = out_of_place > 0 ? out_of_place : time_of(result, "in_place");
    const double size = number_or(result, "size", 0);
    if (size > 0 && time > 0) times[{*collective, ranks, static_cast<std::int64_t>(size)}].push_back(time);
  }
  return fmt::format("nccl-tests {}, NCCL {}, {}, {} ranks", program,
                     text_or(document, "nccl_version", "of unknown version"),
                     text_or(document, "start_time", "undated"), ranks);
}

Result<std::string> read_inspector(const fs::path& path, std::string_view text, Times& times) {
  std::int64_t line_number = 0;
  std::int64_t most_ranks = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object() || !json.contains("coll_perf")) {
      return Error{ErrorKind::BadInput, fmt::format("{}:{}", path.string(), line_number),
                   "expected a line of NCCL Inspector (an object with coll_perf)"};
    }
    const Json& perf = json.at("coll_perf");
    const std::optional<Collective> collective = collective_of(text_or(perf, "coll", ""));
    const auto ranks = static_cast<std::int64_t>(number_or(json.value("header", Json::object()), "n_ranks", 0));
    const double time = number_or(perf, "coll_exec_time_us", 0), size = number_or(perf, "coll_msg_size_bytes", 0);
    if (!collective || ranks < 2 || time <= 0 || size <= 0) continue;
    most_ranks = std::max(most_ranks, ranks);
    times[{*collective, ranks, static_cast<std::int64_t>(size)}].push_back(time);
  }
  return fmt::format("NCCL Inspector, {} ranks", most_ranks);
}

bool is_nccl_tests(const Json& document) {
  const auto results = document.is_object() ? document.find("results") : document.end();
  return document.is_object() && results != document.end() && results->is_array();
}

/// Every third size of each collective is kept apart, the smallest and the largest never.
void keep_some_apart(std::vector<LinkSample>& samples) {
  std::map<Collective, std::vector<LinkSample*>> by_collective;
  for (LinkSample& sample : samples) by_collective[sample.communication.collective].push_back(&sample);
  for (auto& [collective, of_kind] : by_collective) {
    for (std::size_t i = 1; i + 1 < of_kind.size(); ++i) of_kind[i]->held_out = i % 3 == 2;
  }
}

}  // namespace

Result<ImportedCollectives> import_collectives(const fs::path& path) {
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return text.error();
  Times times;
  const Json document = Json::parse(*text, nullptr, false);
  Result<std::string> origin = std::string();
  if (is_nccl_tests(document)) {
    origin = read_nccl_tests(path, document, times);
  } else if (text->find("\"coll_perf\"") != std::string::npos) {
    origin = read_inspector(path, *text, times);
  } else {
    return Error{ErrorKind::BadInput, path.string(),
                 document.is_discarded() ? "is no complete JSON; a run of nccl-tests that was killed leaves it open"
                                         : "holds no results of nccl-tests and no lines of NCCL Inspector"};
  }
  if (!origin.ok()) return origin.error();
  if (times.empty()) return Error{ErrorKind::BadInput, path.string(), "holds no collective with a size and a time"};
  ImportedCollectives imported{{}, *origin};
  for (const auto& [key, microseconds] : times) {
    const auto& [collective, ranks, bytes] = key;
    imported.samples.push_back(
        {{collective, Group::World, Bytes(bytes)}, ranks, duration_from_seconds(1e-6 * median(microseconds))});
  }
  return imported;
}

Result<HardwareProfile> with_collectives(HardwareProfile base, const std::vector<ImportedCollectives>& imported,
                                         const std::vector<KernelSample>& kernels) {
  std::vector<LinkSample> direct, ring;
  std::vector<std::string> direct_origins, ring_origins;
  std::optional<std::int64_t> ranks;
  for (const ImportedCollectives& each : imported) {
    bool has_direct = false, has_ring = false;
    for (const LinkSample& sample : each.samples) {
      if (ranks && *ranks != sample.ranks) {
        return Error{ErrorKind::BadInput, each.origin,
                     fmt::format("a profile has one group size: {} ranks beside {}", sample.ranks, *ranks)};
      }
      ranks = sample.ranks;
      const Collective kind = sample.communication.collective;
      const bool is_direct = kind == Collective::AllToAll || kind == Collective::PointToPoint;
      (is_direct ? direct : ring).push_back(sample);
      (is_direct ? has_direct : has_ring) = true;
    }
    if (has_direct) direct_origins.push_back(each.origin);
    if (has_ring) ring_origins.push_back(each.origin);
  }
  ASSERT(ranks, "nothing was imported");
  base.node.ranks = *ranks;
  std::vector<LinkSample> all;
  const auto fit = [&](std::vector<LinkSample>& samples, const std::vector<std::string>& origins, LinkProfile& link,
                       const char* pointer) {
    if (samples.empty()) return;
    keep_some_apart(samples);
    link = fit_link(samples);
    set_source(base, pointer, {SourceKind::Measured, fmt::format("{}", fmt::join(origins, "; "))});
    all.insert(all.end(), samples.begin(), samples.end());
  };
  fit(direct, direct_origins, base.node.all_to_all, "/node/all_to_all");
  fit(ring, ring_origins, base.node.all_reduce, "/node/all_reduce");
  set_source(base, "/node/ranks", {SourceKind::Measured, "of the imported collectives"});
  base.fit = fit_quality(base, kernels, all);
  set_source(base, "/fit", {SourceKind::Measured, "of the imported measurements"});
  return base;
}

}  // namespace moecast
