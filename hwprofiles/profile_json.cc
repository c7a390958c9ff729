#include "hwprofiles/profile_json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "hwprofiles/cluster_json.h"
#include "hwprofiles/json_lists.h"
#include "hwprofiles/names.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

void read_rate(ListReader& list, const Json& value, const std::string& where, std::vector<double>& rates) {
  const auto rate = list.unit(value, parse_flops_per_second, where);
  if (rate && rate->value() <= 0) list.bad(where, "a rate above zero", value, "out-of-range");
  rates.push_back(rate ? rate->value() : 1);
}

/// "rate" is [m][n][k].
GemmTable read_gemm(JsonReader reader) {
  GemmTable table;
  table.overhead = reader.duration("overhead");
  table.m = read_axis(reader, "m");
  table.n = read_axis(reader, "n");
  table.k = read_axis(reader, "k");
  ListReader list(reader, "rate");
  if (!list.there() || !list.is_list(list.json(), table.m.size(), "")) return table;
  for (std::size_t i = 0; i < table.m.size(); ++i) {
    const Json& rows = list.json()[i];
    if (!list.is_list(rows, table.n.size(), fmt::format("m = {}", table.m[i]))) continue;
    for (std::size_t j = 0; j < table.n.size(); ++j) {
      const std::string where = fmt::format("m = {}, n = {}", table.m[i], table.n[j]);
      if (!list.is_list(rows[j], table.k.size(), where)) continue;
      for (std::size_t l = 0; l < table.k.size(); ++l) {
        read_rate(list, rows[j][l], fmt::format("{}, k = {}", where, table.k[l]), table.flops_per_second);
      }
    }
  }
  return table;
}

MemoryCost read_memory_cost(JsonReader reader) {
  MemoryCost cost;
  cost.columns = read_axis(reader, "columns");
  ListReader list(reader, "curves");
  if (!list.there() || !list.is_list(list.json(), cost.columns.size(), "")) return cost;
  for (std::size_t i = 0; i < cost.columns.size(); ++i) {
    cost.curves.push_back(
        read_curve(list, list.json()[i], SizeKind::InBytes, fmt::format("columns = {}", cost.columns[i])));
  }
  return cost;
}

/// "curves" is [head_dim][sequence].
AttentionCost read_attention(JsonReader reader) {
  AttentionCost cost;
  cost.head_dim = read_axis(reader, "head_dim");
  cost.sequence = read_axis(reader, "sequence");
  ListReader list(reader, "curves");
  if (!list.there() || !list.is_list(list.json(), cost.head_dim.size(), "")) return cost;
  for (std::size_t i = 0; i < cost.head_dim.size(); ++i) {
    const Json& row = list.json()[i];
    if (!list.is_list(row, cost.sequence.size(), fmt::format("head_dim = {}", cost.head_dim[i]))) continue;
    for (std::size_t j = 0; j < cost.sequence.size(); ++j) {
      const std::string where = fmt::format("head_dim = {}, sequence = {}", cost.head_dim[i], cost.sequence[j]);
      cost.curves.push_back(read_curve(list, row[j], SizeKind::Plain, where));
    }
  }
  return cost;
}

std::map<MemoryKernel, MemoryCost> read_memory_kernels(JsonReader reader) {
  std::map<MemoryKernel, MemoryCost> kernels;
  std::vector<std::string> known;
  for (const MemoryKernel kernel : all_memory_kernels()) known.emplace_back(to_text(kernel));
  for (const std::string& name : reader.keys()) {
    const std::optional<MemoryKernel> kernel = memory_kernel_named(name);
    if (kernel) {
      kernels[*kernel] = read_memory_cost(reader.object(name));
    } else {
      reader.problem(name, "unknown-key", fmt::format("one of {}", fmt::join(known, ", ")), name,
                     nearest_name(name, known));
    }
  }
  if (!kernels.contains(MemoryKernel::Copy)) {
    reader.problem({}, "missing-key", "the key \"copy\" (kernels without a curve are charged as copies)", "nothing");
  }
  return kernels;
}

DeviceProfile read_device(JsonReader reader) {
  DeviceProfile device;
  device.name = reader.text("name");
  device.peak = reader.flops_per_second("peak");
  device.memory_rate = reader.bytes_per_second("memory_rate");
  device.memory = reader.bytes("memory");
  device.operator_overhead = reader.duration("operator_overhead");
  device.host_launch = reader.duration("host_launch", device.host_launch);
  device.host_micro_batch = reader.duration("host_micro_batch", device.host_micro_batch);
  device.gemm = read_gemm(reader.object("gemm"));
  device.grouped_gemm = read_gemm(reader.object("grouped_gemm"));
  device.attention_forward = read_attention(reader.object("attention_forward"));
  device.attention_backward = read_attention(reader.object("attention_backward"));
  device.memory_kernels = read_memory_kernels(reader.object("memory_kernels"));
  return device;
}

LinkProfile read_link(JsonReader reader) {
  LinkProfile link;
  link.latency = reader.duration("latency");
  link.bandwidth = reader.bytes_per_second("bandwidth");
  if (link.bandwidth.value() <= 0 && reader.has("bandwidth") && reader.good()) {
    reader.problem("bandwidth", "out-of-range", "a bandwidth above zero", to_text(link.bandwidth));
  }
  link.efficiency = read_efficiency(reader);
  return link;
}

HostLink read_host_link(JsonReader reader) {
  HostLink link;
  link.bandwidth = reader.bytes_per_second("bandwidth");
  if (reader.good() && link.bandwidth.value() <= 0) {
    reader.problem("bandwidth", "out-of-range", "a bandwidth above zero", to_text(link.bandwidth));
  }
  link.shared = reader.boolean("shared");
  return link;
}

NodeProfile read_node(JsonReader reader) {
  NodeProfile node;
  node.ranks = reader.integer("ranks", 1, kMaxSize);
  node.all_to_all = read_link(reader.object("all_to_all"));
  node.all_reduce = read_link(reader.object("all_reduce"));
  if (reader.has("switch_bandwidth")) node.switch_bandwidth = reader.bytes_per_second("switch_bandwidth");
  if (reader.has("host_link")) node.host_link = read_host_link(reader.object("host_link"));
  return node;
}

Interference read_interference(JsonReader& parent) {
  Interference interference;
  if (!parent.has("interference")) return interference;
  JsonReader reader = parent.object("interference");
  interference.compute_beside_communication =
      reader.number("compute_beside_communication", 1, 100, interference.compute_beside_communication);
  interference.communication_beside_compute =
      reader.number("communication_beside_compute", 1, 100, interference.communication_beside_compute);
  interference.compute_beside_copy = reader.number("compute_beside_copy", 1, 100, interference.compute_beside_copy);
  return interference;
}

std::optional<FitQuality> read_fit(JsonReader& parent) {
  if (!parent.has("fit")) return std::nullopt;
  JsonReader reader = parent.object("fit");
  FitQuality fit;
  fit.fit_median_error = reader.number("fit_median_error", 0, 1e6);
  fit.held_out_median_error = reader.number("held_out_median_error", 0, 1e6);
  fit.held_out_count = reader.integer("held_out_count", 0, kMaxSize);
  return fit;
}

std::map<std::string, Source> read_sources(JsonReader reader) {
  const EnumNames<SourceKind> kinds = {{to_text(SourceKind::Measured), SourceKind::Measured},
                                       {to_text(SourceKind::Datasheet), SourceKind::Datasheet},
                                       {to_text(SourceKind::Published), SourceKind::Published},
                                       {to_text(SourceKind::Assumed), SourceKind::Assumed}};
  std::map<std::string, Source> sources;
  for (const std::string& pointer : reader.keys()) {
    if (!pointer.empty() && pointer.front() != '/') {
      reader.problem(pointer, "wrong-type", "a JSON pointer such as \"/device/gemm\"", pointer);
    }
    JsonReader entry = reader.object(pointer);
    sources[pointer] = {entry.choice("kind", kinds), entry.text("reference")};
  }
  return sources;
}

/// Reports every number below `reader` that no entry of "sources" covers. `at` counts from the profile's object.
void require_sources(JsonReader reader, const HardwareProfile& profile, const std::string& at) {
  for (const std::string& key : reader.keys()) {
    const std::string pointer = at + "/" + key;
    const std::string kind = reader.kind(key);
    if (kind == "object") {
      require_sources(reader.object(key), profile, pointer);
      continue;
    }
    const bool is_name = kind == "string" && (key == "name" || key == "joins" || key == "link" || key == "kind");
    if (is_name || profile.source_of(pointer) != nullptr) continue;
    reader.problem(key, "missing-source", fmt::format("an entry in \"sources\" for {}", pointer), "none");
  }
}

}  // namespace

HardwareProfile read_profile(JsonReader& reader) {
  HardwareProfile profile;
  profile.name = reader.text("name");
  profile.description = reader.text("description", "");
  profile.sources = read_sources(reader.object("sources"));
  profile.device = read_device(reader.object("device"));
  profile.node = read_node(reader.object("node"));
  profile.interference = read_interference(reader);
  profile.fit = read_fit(reader);
  if (reader.has("cluster")) profile.cluster = read_cluster(reader.object("cluster"), profile.node.ranks);
  for (const std::string section : {"device", "node", "interference", "fit", "cluster"}) {
    if (reader.kind(section) == "object") require_sources(reader.object(section), profile, "/" + section);
  }
  return profile;
}

Result<HardwareProfile> load_profile(const std::filesystem::path& path) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  HardwareProfile profile = read_profile(reader);
  RETURN_IF_ERROR(reader.finish());
  return profile;
}

}  // namespace moecast
