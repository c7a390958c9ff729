#include "hwprofiles/measured_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "base/statistics.h"

namespace moecast {
namespace {

/// What reading a table ends in: its rows, or everything that is wrong with it.
template <typename Row>
Result<std::vector<Row>> finished(const CsvTable& table, std::vector<Row> rows, std::vector<Problem> problems) {
  constexpr std::size_t kMostProblems = 50;
  if (problems.size() > kMostProblems) problems.resize(kMostProblems);
  if (!problems.empty()) {
    return Error{ErrorKind::BadInput, table.file.string(), "holds fields that cannot be read", std::move(problems)};
  }
  if (rows.empty()) return Error{ErrorKind::BadInput, table.file.string(), "holds no row of that device or kernel"};
  return rows;
}

bool passes(const CsvTable& table, const CsvRow& row, const RowFilter& filter) {
  const auto same = [&](const char* column, const std::string& wanted) {
    return wanted.empty() || !table.has({column}) || row.text(column) == wanted;
  };
  return same("device", filter.device) && same("kernel", filter.kernel);
}

Duration milliseconds_of(const CsvRow& row) { return duration_from_seconds(1e-3 * row.number("latency_ms")); }

std::optional<Collective> collective_named(std::string_view name) {
  if (name == "all_gather") return Collective::AllGather;
  if (name == "all_reduce") return Collective::AllReduce;
  if (name == "reduce_scatter") return Collective::ReduceScatter;
  if (name == "alltoall" || name == "all_to_all") return Collective::AllToAll;
  return std::nullopt;
}

/// Three matrices an expert; the published kernels that have two are known by name.
bool is_gated_kernel(std::string_view kernel) {
  return kernel != "moe_torch_flow_nongated" && kernel != "sglang_flashinfer_cutlass_moe";
}

}  // namespace

std::optional<TableKind> table_kind(const CsvTable& table) {
  if (table.has({"device", "m", "n", "k", "latency_ms"})) return TableKind::Products;
  if (table.has({"kernel", "tokens", "hidden", "inter", "top_k", "experts", "moe_tp", "moe_ep", "distribution",
                 "latency_ms"})) {
    return TableKind::Experts;
  }
  if (table.has({"device", "collective", "gpus", "bytes", "latency_ms"})) return TableKind::Collectives;
  return std::nullopt;
}

Result<std::vector<ProductRow>> read_products(const CsvTable& table, const RowFilter& filter) {
  std::vector<ProductRow> rows;
  std::vector<Problem> problems;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const CsvRow row(table, i, problems);
    if (!passes(table, row, filter)) continue;
    rows.push_back({{GemmWork{row.count("m"), row.count("n"), row.count("k")}, milliseconds_of(row), i % 2 == 1}});
  }
  return finished(table, std::move(rows), std::move(problems));
}

Result<std::vector<ExpertRow>> read_experts(const CsvTable& table, const RowFilter& filter) {
  std::vector<ExpertRow> rows;
  std::vector<Problem> problems;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const CsvRow row(table, i, problems);
    if (!passes(table, row, filter)) continue;
    const std::size_t before = problems.size();
    ExpertRow out{row.text("kernel"), row.text("distribution"), {}};
    ExpertCall& call = out.sample.call;
    call.tokens = row.count("tokens");
    call.d_model = row.count("hidden");
    call.gated = is_gated_kernel(out.kernel);
    const std::int64_t width = row.count("inter"), cut = row.count("moe_tp");
    const BenchmarkRouting routing{call.tokens, row.count("experts"), row.count("top_k"), row.count("moe_ep"),
                                   out.distribution};
    out.sample.time = milliseconds_of(row);
    out.sample.held_out = i % 2 == 1;
    if (problems.size() != before) continue;
    call.width = std::max<std::int64_t>(1, width / cut);
    Result<std::vector<ExpertRows>> draws = benchmark_rows(routing);
    if (draws.ok()) {
      call.draws = std::move(draws).value();
      rows.push_back(std::move(out));
    } else {
      problems.push_back({table.file.string(), static_cast<int>(i) + 2, 0, "", "bad-field", draws.error().message,
                          out.distribution, ""});
    }
  }
  return finished(table, std::move(rows), std::move(problems));
}

Result<std::vector<CollectiveRow>> read_collectives(const CsvTable& table, const RowFilter& filter) {
  std::vector<CollectiveRow> rows;
  std::vector<Problem> problems;
  std::map<std::string, std::set<std::int64_t>> sizes;  // by device, collective and group
  const auto key = [](const CsvRow& row) {
    return fmt::format("{},{},{}", row.text("device"), row.text("collective"), row.text("gpus"));
  };
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const CsvRow row(table, i, problems);
    if (passes(table, row, filter)) sizes[key(row)].insert(row.count("bytes"));
  }
  problems.clear();
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const CsvRow row(table, i, problems);
    if (!passes(table, row, filter)) continue;
    const std::optional<Collective> collective = collective_named(row.text("collective"));
    const std::int64_t bytes = row.count("bytes");
    const std::set<std::int64_t>& of_key = sizes[key(row)];
    const bool held_out = std::distance(of_key.begin(), of_key.find(bytes)) % 2 == 1;
    if (!collective) {
      row.problem("collective", "all_gather, all_reduce, reduce_scatter or alltoall");
      continue;
    }
    rows.push_back({row.text("device"),
                    {{*collective, Group::World, Bytes(bytes)}, row.count("gpus"), milliseconds_of(row), held_out}});
  }
  return finished(table, std::move(rows), std::move(problems));
}

namespace {

const GemmAxes& product_axes() {
  static const GemmAxes axes{
      {1, 16, 64, 128, 256, 1024, 3072}, {32, 128, 512, 2048, 8192, 65536}, {32, 128, 512, 2048, 8192, 65536}};
  return axes;
}

/// Medians of |predicted - measured| / measured.
class Errors {
 public:
  void add(Duration predicted, Duration measured, bool held_out) {
    (held_out ? apart_ : used_).push_back(std::abs(seconds(predicted) / seconds(measured) - 1));
  }
  [[nodiscard]] FitQuality quality() const {
    return {used_.empty() ? 0 : median(used_), apart_.empty() ? 0 : median(apart_),
            static_cast<std::int64_t>(apart_.size())};
  }

 private:
  std::vector<double> used_, apart_;
};

Result<FitQuality> refit_products(HardwareProfile& profile, const CsvTable& table, const RowFilter& filter) {
  const Result<std::vector<ProductRow>> rows = read_products(table, filter);
  if (!rows.ok()) return rows.error();
  std::vector<KernelSample> samples;
  for (const ProductRow& row : *rows) samples.push_back(row.sample);
  profile.device.gemm = fit_gemm(samples, product_axes());
  Errors errors;
  for (const KernelSample& each : samples) errors.add(profile.device.time(each.work), each.time, each.held_out);
  return errors.quality();
}

Result<FitQuality> refit_experts(HardwareProfile& profile, const CsvTable& table, const RowFilter& filter) {
  const Result<std::vector<ExpertRow>> rows = read_experts(table, filter);
  if (!rows.ok()) return rows.error();
  std::vector<ExpertSample> samples;
  for (const ExpertRow& row : *rows) samples.push_back(row.sample);
  profile.device.grouped_gemm = fit_routed_experts(samples, profile.device);
  Errors errors;
  for (const ExpertSample& each : samples) {
    errors.add(expert_time(profile.device, each.call), each.time, each.held_out);
  }
  return errors.quality();
}

/// The links that GPUs are attached by first.
std::optional<std::string> first_link(const HardwareProfile& profile) {
  if (!profile.cluster) return std::nullopt;
  for (const ClusterPart& part : profile.cluster->parts) {
    if (part.joins == "gpu") return part.link;
  }
  return std::nullopt;
}

Result<FitQuality> refit_collectives(HardwareProfile& profile, const CsvTable& table, const RowFilter& filter) {
  const Result<std::vector<CollectiveRow>> rows = read_collectives(table, filter);
  if (!rows.ok()) return rows.error();
  const bool one_device = std::all_of(rows->begin(), rows->end(),
                                      [&](const CollectiveRow& row) { return row.device == rows->front().device; });
  if (!one_device) return Error{ErrorKind::BadInput, table.file.string(), "holds several devices; name one (--device)"};
  const std::optional<std::string> link = first_link(profile);
  if (!link) return Error{ErrorKind::BadInput, profile.name, "has no cluster whose links could take a table"};
  LinkClass& fitted = profile.cluster->links.at(*link);
  fitted.measured = fit_collectives(*rows);
  Errors errors;
  for (const CollectiveRow& row : *rows) {
    const LinkSample& sample = row.sample;
    const CollectiveTable& times = fitted.measured.at(sample.communication.collective);
    const double moving = times.seconds_of_bytes(sample.ranks, sample.communication.buffer.value());
    errors.add(times.latency(sample.ranks) + duration_from_seconds(moving), sample.time, sample.held_out);
  }
  return errors.quality();
}

std::string fitted_pointer(TableKind kind, const HardwareProfile& profile) {
  switch (kind) {
    case TableKind::Products:
      return "/device/gemm";
    case TableKind::Experts:
      return "/device/grouped_gemm";
    case TableKind::Collectives:
      break;
  }
  return fmt::format("/cluster/links/{}/measured", first_link(profile).value_or(""));
}

}  // namespace

Result<HardwareProfile> refit(HardwareProfile base, const CsvTable& table, const RowFilter& filter) {
  const std::optional<TableKind> kind = table_kind(table);
  if (!kind) {
    return Error{ErrorKind::BadInput, table.file.string(),
                 "has the columns of no table that a fit is made to: products, experts or collectives"};
  }
  const Result<FitQuality> quality = *kind == TableKind::Products  ? refit_products(base, table, filter)
                                     : *kind == TableKind::Experts ? refit_experts(base, table, filter)
                                                                   : refit_collectives(base, table, filter);
  if (!quality.ok()) return quality.error();
  base.sources[fitted_pointer(*kind, base)] = {
      SourceKind::Published,
      fmt::format("fitted to every second row of {}{}{}{}{}; median error {:.1f} % of these, {:.1f} % of the rest",
                  table.file.filename().string(), filter.device.empty() ? "" : ", ", filter.device,
                  filter.kernel.empty() ? "" : ", ", filter.kernel, 100 * quality->fit_median_error,
                  100 * quality->held_out_median_error)};
  base.fit = *quality;
  base.sources["/fit"] = {SourceKind::Published, table.file.filename().string()};
  return base;
}

std::map<Collective, CollectiveTable> fit_collectives(const std::vector<CollectiveRow>& rows) {
  using Key = std::tuple<Collective, std::int64_t, std::int64_t>;  // ranks, bytes
  std::map<Key, std::vector<double>> times;
  for (const CollectiveRow& row : rows) {
    const LinkSample& sample = row.sample;
    if (sample.held_out) continue;
    times[{sample.communication.collective, sample.ranks, sample.communication.buffer.count()}].push_back(
        seconds(sample.time));
  }
  std::map<std::pair<Collective, std::int64_t>, std::vector<CostCurve::Point>> points;
  for (const auto& [key, repeats] : times) {
    const auto& [collective, ranks, bytes] = key;
    points[{collective, ranks}].push_back({static_cast<double>(bytes), duration_from_seconds(median(repeats))});
  }
  std::map<Collective, CollectiveTable> tables;
  for (const auto& [key, of_key] : points) {  // ascending in ranks
    tables[key.first].ranks.push_back(key.second);
    tables[key.first].curves.push_back(fit_curve(of_key));
  }
  return tables;
}

}  // namespace moecast
