#include "hwprofiles/cluster_json.h"

#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "hwprofiles/json_lists.h"
#include "hwprofiles/names.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxGpus = std::int64_t{1} << 22;

CollectiveTable read_table(JsonReader reader) {
  CollectiveTable table;
  table.ranks = read_axis(reader, "ranks");
  ListReader list(reader, "curves");
  if (!list.there() || !list.is_list(list.json(), table.ranks.size(), "")) return table;
  for (std::size_t i = 0; i < table.ranks.size(); ++i) {
    const std::string where = fmt::format("ranks = {}", table.ranks[i]);
    CostCurve curve = read_curve(list, list.json()[i], SizeKind::InBytes, where);
    for (std::size_t p = 1; p < curve.points.size(); ++p) {
      if (curve.points[p].time >= curve.points[p - 1].time) continue;
      list.bad(fmt::format("{}, point {}", where, p), "a time not below the one before", list.json()[i][p],
               "out-of-range");
    }
    table.curves.push_back(std::move(curve));
  }
  return table;
}

LinkClass read_link_class(JsonReader& reader) {
  const EnumNames<LinkKind> kinds = {{to_text(LinkKind::NvLink), LinkKind::NvLink},
                                     {to_text(LinkKind::Pcie), LinkKind::Pcie},
                                     {to_text(LinkKind::Network), LinkKind::Network}};
  LinkClass link;
  link.kind = reader.choice("kind", kinds);
  link.bandwidth = reader.bytes_per_second("bandwidth");
  if (link.bandwidth.value() <= 0 && reader.has("bandwidth") && reader.good()) {
    reader.problem("bandwidth", "out-of-range", "a bandwidth above zero", to_text(link.bandwidth));
  }
  link.latency = reader.duration("latency");
  link.efficiency = read_efficiency(reader);
  link.multicast = reader.boolean("multicast", link.multicast);
  if (!reader.has("measured")) return link;
  JsonReader measured = reader.object("measured");
  std::vector<std::string> known;
  for (const Collective collective : all_collectives()) known.emplace_back(to_text(collective));
  for (const std::string& name : measured.keys()) {
    const std::optional<Collective> collective = collective_named(name);
    if (collective) {
      link.measured[*collective] = read_table(measured.object(name));
    } else {
      measured.problem(name, "unknown-key", fmt::format("one of {}", fmt::join(known, ", ")), name,
                       nearest_name(name, known));
    }
  }
  return link;
}

ClusterPart read_part(JsonReader& reader, const std::string& name) {
  ClusterPart part;
  part.name = name;
  part.joins = reader.text("joins");
  part.link = reader.text("link");
  part.links = reader.integer("links", 1, kMaxGpus, part.links);
  if (reader.has("gpus")) part.gpus = reader.integer("gpus", 1, kMaxGpus);
  if (reader.has("nodes")) part.nodes = reader.integer("nodes", 1, kMaxGpus);
  part.rail = reader.boolean("rail", part.rail);
  if (reader.has("capacity")) part.capacity = reader.bytes_per_second("capacity");
  part.storage = reader.boolean("storage", part.storage);
  return part;
}

using Readers = std::map<std::string, JsonReader>;

void report(JsonReader& reader, Readers& links, Readers& parts, const ClusterProblem& problem) {
  JsonReader& owner = !problem.part.empty()   ? parts.at(problem.part)
                      : !problem.link.empty() ? links.at(problem.link)
                                              : reader;
  owner.problem(problem.key, problem.code, problem.expected, problem.found, problem.suggestion);
}

Json table_json(const CollectiveTable& table) {
  Json curves = Json::array();
  for (const CostCurve& curve : table.curves) {
    Json points = Json::array();
    for (const CostCurve::Point& point : curve.points) {
      points.push_back(Json::array({to_text(Bytes(std::llround(point.size))), to_text(point.time)}));
    }
    curves.push_back(std::move(points));
  }
  return {{"ranks", table.ranks}, {"curves", std::move(curves)}};
}

Json link_json(const LinkClass& link) {
  Json json = {
      {"kind", to_text(link.kind)}, {"bandwidth", to_text(link.bandwidth)}, {"latency", to_text(link.latency)}};
  for (const auto& [size, fraction] : link.efficiency) {
    json["efficiency"].push_back(Json::array({to_text(Bytes(std::llround(size))), fraction}));
  }
  if (link.multicast) json["multicast"] = true;
  for (const auto& [collective, table] : link.measured) {
    json["measured"][std::string(to_text(collective))] = table_json(table);
  }
  return json;
}

Json part_json(const ClusterPart& part) {
  Json json = {{"joins", part.joins}, {"link", part.link}};
  if (part.links != 1) json["links"] = part.links;
  if (part.gpus) json["gpus"] = *part.gpus;
  if (part.nodes) json["nodes"] = *part.nodes;
  if (part.rail) json["rail"] = true;
  if (part.capacity) json["capacity"] = to_text(*part.capacity);
  if (part.storage) json["storage"] = true;
  return json;
}

}  // namespace

Cluster read_cluster(JsonReader reader, std::int64_t node_gpus) {
  Cluster cluster;
  cluster.node_gpus = node_gpus;
  cluster.node_count = reader.integer("nodes", 1, kMaxGpus);
  JsonReader link_map = reader.object("links");
  Readers links, parts;
  for (const std::string& name : link_map.keys()) {
    cluster.links[name] = read_link_class(links.emplace(name, link_map.object(name)).first->second);
  }
  JsonReader part_map = reader.object("parts");
  for (const std::string& name : part_map.keys()) {
    cluster.parts.push_back(read_part(parts.emplace(name, part_map.object(name)).first->second, name));
  }
  if (cluster.gpu_count() > kMaxGpus) {
    reader.problem("nodes", "out-of-range", fmt::format("at most {} GPUs", kMaxGpus),
                   std::to_string(cluster.gpu_count()));
  } else if (reader.good()) {
    for (const ClusterProblem& problem : problems_of(cluster)) report(reader, links, parts, problem);
  }
  return cluster;
}

Json to_json(const Cluster& cluster) {
  Json links = Json::object();
  for (const auto& [name, link] : cluster.links) links[name] = link_json(link);
  Json parts = Json::object();
  for (const ClusterPart& part : cluster.parts) parts[part.name] = part_json(part);
  return {{"nodes", cluster.node_count}, {"links", std::move(links)}, {"parts", std::move(parts)}};
}

}  // namespace moecast
