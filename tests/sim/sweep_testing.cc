#include "tests/sim/sweep_testing.h"

#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace moecast::testing_sweep {

const char* const kCampaign = R"({"name": "small", "campaign": {
  "cluster": {"gpus": 64, "price_per_gpu_hour": 2, "spares": {"kind": "hot", "count": 4}},
  "training": {"horizon": "2 d", "step": "5 s", "forward_backward": "4 s"},
  "experts": {"per_layer": 16, "layers": 4, "expert_parallel": 8},
  "checkpoint": {"rank_bytes": {"non_expert": "500 MB", "expert": "4 GB"},
                 "total_bytes": {"non_expert": "20 GB", "expert": "250 GB"},
                 "snapshot_rate": "1 GB/s", "persist_rate": "500 MB/s"},
  "reliability": {"name": "test", "sources": {"/modes": {"kind": "assumed", "reference": "a test"},
                                              "/recovery": {"kind": "assumed", "reference": "a test"}},
                  "modes": {"crash": {"component": "gpu", "per": "cluster", "reach": "node", "mean_between": "3 h"}},
                  "recovery": {"detection": "1 min", "repair": "1 h", "process_start": "2 min"}},
  "policy": {"kind": "pec_two_level", "interval": 50, "snapshot_experts": 16, "persist_experts": 4}}})";

std::string sweep_text(const std::string& rest) {
  return fmt::format(R"({{"name": "test", "base": {}, {}}})", kCampaign, rest);
}

Result<SweepSpec> parse_sweep(const std::string& rest) {
  Result<JsonDocument> document = JsonDocument::parse(sweep_text(rest), "sweep.json");
  if (!document.ok()) return document.error();
  return read_sweep(std::move(document).value());
}

SweepSpec good_sweep(const std::string& rest) {
  Result<SweepSpec> spec = parse_sweep(rest);
  return std::move(spec).value();
}

SweepSpec small_sweep() {
  return good_sweep(R"("axes": [{"pointer": "/campaign/policy/interval", "values": [20, 60, 200]},
                                {"pointer": "/campaign/policy/persist_experts", "values": [1, 4, 8, 16]}],
                       "replicas": 2, "objective": {"metric": "goodput", "goal": "max"})");
}

std::vector<SweepPoint> points_of(const SweepSpec& spec) {
  Result<std::vector<SweepPoint>> points = sweep_points(spec);
  return std::move(points).value();
}

std::string error_of(const Result<SweepSpec>& spec) { return spec.ok() ? "ok" : spec.error().text(); }

std::string text_of(const SweepRows& rows) {
  std::string out;
  for (const SweepRow* row : rows.newest()) {
    out += fmt::format("{} {} [{}] {}\n", row->request.point, row->request.replicas, fmt::join(row->values, " "),
                       row->problem);
  }
  return out;
}

Folder::Folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "moecast-sweep-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace moecast::testing_sweep
