#include <cmath>

#include <nlohmann/json.hpp>

#include "hwprofiles/cluster_json.h"
#include "hwprofiles/names.h"
#include "hwprofiles/profile_json.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

Json whole_bytes(double size) { return to_text(Bytes(std::llround(size))); }

Json gemm_json(const GemmTable& table) {
  Json rate = Json::array();
  std::size_t next = 0;
  for (std::size_t i = 0; i < table.m.size(); ++i) {
    Json rows = Json::array();
    for (std::size_t j = 0; j < table.n.size(); ++j) {
      Json row = Json::array();
      for (std::size_t l = 0; l < table.k.size(); ++l) {
        row.push_back(to_text(FlopsPerSecond(table.flops_per_second[next++])));
      }
      rows.push_back(std::move(row));
    }
    rate.push_back(std::move(rows));
  }
  return {{"overhead", to_text(table.overhead)}, {"m", table.m}, {"n", table.n}, {"k", table.k}, {"rate", rate}};
}

Json memory_json(const MemoryCost& cost) {
  Json curves = Json::array();
  for (const CostCurve& curve : cost.curves) {
    Json points = Json::array();
    for (const CostCurve::Point& point : curve.points) {
      points.push_back(Json::array({whole_bytes(point.size), to_text(point.time)}));
    }
    curves.push_back(std::move(points));
  }
  return {{"columns", cost.columns}, {"curves", curves}};
}

Json attention_json(const AttentionCost& cost) {
  Json curves = Json::array();
  std::size_t next = 0;
  for (std::size_t i = 0; i < cost.head_dim.size(); ++i) {
    Json row = Json::array();
    for (std::size_t j = 0; j < cost.sequence.size(); ++j) {
      Json points = Json::array();
      for (const CostCurve::Point& point : cost.curves[next++].points) {
        points.push_back(Json::array({point.size, to_text(point.time)}));
      }
      row.push_back(std::move(points));
    }
    curves.push_back(std::move(row));
  }
  return {{"head_dim", cost.head_dim}, {"sequence", cost.sequence}, {"curves", curves}};
}

Json device_json(const DeviceProfile& device) {
  Json kernels = Json::object();
  for (const auto& [kernel, cost] : device.memory_kernels) kernels[std::string(to_text(kernel))] = memory_json(cost);
  Json json = {{"name", device.name},
               {"peak", to_text(device.peak)},
               {"memory_rate", to_text(device.memory_rate)},
               {"memory", to_text(device.memory)},
               {"operator_overhead", to_text(device.operator_overhead)}};
  if (device.host_launch.count() > 0) json["host_launch"] = to_text(device.host_launch);
  if (device.host_micro_batch.count() > 0) json["host_micro_batch"] = to_text(device.host_micro_batch);
  json.update({{"gemm", gemm_json(device.gemm)},
               {"grouped_gemm", gemm_json(device.grouped_gemm)},
               {"attention_forward", attention_json(device.attention_forward)},
               {"attention_backward", attention_json(device.attention_backward)},
               {"memory_kernels", std::move(kernels)}});
  return json;
}

Json link_json(const LinkProfile& link) {
  Json json = {{"latency", to_text(link.latency)}, {"bandwidth", to_text(link.bandwidth)}};
  if (link.efficiency.empty()) return json;
  Json curve = Json::array();
  for (const auto& [size, fraction] : link.efficiency) curve.push_back(Json::array({whole_bytes(size), fraction}));
  json["efficiency"] = std::move(curve);
  return json;
}

Json node_json(const NodeProfile& node) {
  Json json = {
      {"ranks", node.ranks}, {"all_to_all", link_json(node.all_to_all)}, {"all_reduce", link_json(node.all_reduce)}};
  if (node.switch_bandwidth) json["switch_bandwidth"] = to_text(*node.switch_bandwidth);
  if (node.host_link) {
    json["host_link"] = {{"bandwidth", to_text(node.host_link->bandwidth)}, {"shared", node.host_link->shared}};
  }
  return json;
}

bool is_flat(const Json& value) {
  if (!value.is_array()) return !value.is_object();
  for (const Json& element : value) {
    if (element.is_object()) return false;
  }
  return true;
}

/// Depth of nested lists: 1 for [1, 2], 0 for a scalar.
int depth(const Json& value) { return value.is_array() ? 1 + (value.empty() ? 0 : depth(value[0])) : 0; }

void write_text(const Json& value, const std::string& indent, std::string& out);

/// A curve ([[size, time], ...]) or a row of a table stays on one line.
void write_list(const Json& list, const std::string& indent, std::string& out) {
  if (is_flat(list) && depth(list) <= 2 && list.size() <= 16) {
    out += list.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  out += "[";
  for (std::size_t i = 0; i < list.size(); ++i) {
    out += (i == 0 ? "\n" : ",\n") + indent + "  ";
    write_text(list[i], indent + "  ", out);
  }
  out += "\n" + indent + "]";
}

void write_text(const Json& value, const std::string& indent, std::string& out) {
  if (value.is_array()) return write_list(value, indent, out);
  if (!value.is_object() || value.empty()) {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  out += "{";
  bool first = true;
  for (const auto& [key, element] : value.items()) {
    out += (first ? "\n" : ",\n") + indent + "  " + Json(key).dump() + ": ";
    write_text(element, indent + "  ", out);
    first = false;
  }
  out += "\n" + indent + "}";
}

}  // namespace

Json to_json(const HardwareProfile& profile) {
  Json sources = Json::object();
  for (const auto& [pointer, source] : profile.sources) {
    sources[pointer] = {{"kind", to_text(source.kind)}, {"reference", source.reference}};
  }
  Json json = {{"name", profile.name},
               {"description", profile.description},
               {"sources", std::move(sources)},
               {"device", device_json(profile.device)},
               {"node", node_json(profile.node)},
               {"interference",
                {{"compute_beside_communication", profile.interference.compute_beside_communication},
                 {"communication_beside_compute", profile.interference.communication_beside_compute}}}};
  if (profile.interference.compute_beside_copy != 1) {
    json["interference"]["compute_beside_copy"] = profile.interference.compute_beside_copy;
  }
  if (profile.cluster) json["cluster"] = to_json(*profile.cluster);
  if (profile.fit) {
    json["fit"] = {{"fit_median_error", profile.fit->fit_median_error},
                   {"held_out_median_error", profile.fit->held_out_median_error},
                   {"held_out_count", profile.fit->held_out_count}};
  }
  return json;
}

std::string to_json_text(const HardwareProfile& profile) {
  std::string out;
  write_text(to_json(profile), "", out);
  return out + "\n";
}

}  // namespace moecast
