#include "sim/table_judgement.h"

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "base/statistics.h"
#include "sim/collectives.h"
#include "sim/measured_steps.h"

namespace moecast {
namespace {

constexpr std::int64_t kLarge = 256 * 1024;

/// Times of collectives among the first GPUs, as the simulator takes them.
class CollectiveTimes {
 public:
  explicit CollectiveTimes(const HardwareProfile& hardware)
      : hardware_(hardware), topology_(hardware.cluster ? *hardware.cluster : Cluster{}), model_(topology_) {}

  Duration time(const LinkSample& sample) {
    if (!hardware_.cluster) return hardware_.time(sample.communication, sample.ranks);
    auto found = shapes_.find(sample.ranks);
    if (found == shapes_.end()) {
      std::vector<std::int32_t> gpus(static_cast<std::size_t>(sample.ranks));
      std::iota(gpus.begin(), gpus.end(), 0);
      found = shapes_.emplace(sample.ranks, model_.shape(gpus)).first;
    }
    return model_.cost(sample.communication.collective, sample.communication.buffer, found->second).time();
  }

 private:
  const HardwareProfile& hardware_;
  Topology topology_;
  CollectiveModel model_;
  std::map<std::int64_t, GroupShape> shapes_;  // by number of ranks
};

Result<TableJudgement> judge_products(const CsvTable& table, const RowFilter& filter, const HardwareProfile& hardware) {
  const Result<std::vector<ProductRow>> rows = read_products(table, filter);
  RETURN_IF_ERROR(rows);
  TableJudgement judgement;
  for (const ProductRow& row : *rows) {
    const auto few = std::get<GemmWork>(row.sample.work).m <= 64;
    judgement.rows.push_back({few ? "m up to 64" : "m above 64", row.sample.held_out, row.sample.time,
                              hardware.device.time(row.sample.work)});
  }
  return judgement;
}

Result<TableJudgement> judge_experts(const CsvTable& table, const RowFilter& filter, const HardwareProfile& hardware) {
  const Result<std::vector<ExpertRow>> rows = read_experts(table, filter);
  RETURN_IF_ERROR(rows);
  TableJudgement judgement;
  for (const ExpertRow& row : *rows) {
    judgement.rows.push_back({fmt::format("{}, {}", row.kernel, row.distribution), row.sample.held_out, row.sample.time,
                              expert_time(hardware.device, row.sample.call)});
  }
  return judgement;
}

Result<TableJudgement> judge_collectives(const CsvTable& table, const RowFilter& filter,
                                         const HardwareProfile& hardware) {
  const Result<std::vector<CollectiveRow>> rows = read_collectives(table, filter);
  RETURN_IF_ERROR(rows);
  CollectiveTimes times(hardware);
  TableJudgement judgement;
  for (const CollectiveRow& row : *rows) {
    if (row.sample.ranks > hardware.rank_count() || row.sample.ranks < 2) {
      return Error{ErrorKind::BadInput, table.file.string(),
                   fmt::format("expected groups of 2 to the {} GPUs of {}, found {}", hardware.rank_count(),
                               hardware.name, row.sample.ranks)};
    }
    const bool large = row.sample.communication.buffer.count() > kLarge;
    judgement.rows.push_back(
        {fmt::format("{}, {} 256 KiB", to_text(row.sample.communication.collective), large ? "above" : "up to"),
         row.sample.held_out, row.sample.time, times.time(row.sample)});
  }
  return judgement;
}

Result<TableJudgement> judge_steps(const CsvTable& table, const HardwareProfile& hardware, std::int64_t thread_count) {
  const Result<std::vector<MeasuredStep>> steps = read_steps(table);
  RETURN_IF_ERROR(steps);
  const std::vector<std::optional<Duration>> times = simulate_steps(*steps, hardware, thread_count);
  TableJudgement judgement;
  for (std::size_t i = 0; i < steps->size(); ++i) {
    const MeasuredStep& step = (*steps)[i];
    if (!times[i]) {
      ++judgement.refused;
      continue;
    }
    const std::int64_t tensor = step.workload.layout.tensor;
    judgement.rows.push_back({fmt::format("tensor {}", tensor), step.held_out, step.time, *times[i]});
  }
  return judgement;
}

RowErrors errors_of_part(std::string name, const std::vector<JudgedRow>& rows,
                         const std::function<bool(const JudgedRow&)>& belongs) {
  std::vector<double> errors, measured, predicted;
  for (const JudgedRow& row : rows) {
    if (!belongs(row)) continue;
    measured.push_back(seconds(row.measured));
    predicted.push_back(seconds(row.predicted));
    errors.push_back(std::fabs(predicted.back() / measured.back() - 1));
  }
  RowErrors part{std::move(name), static_cast<std::int64_t>(errors.size())};
  if (errors.empty()) return part;
  part.median = median(errors);
  part.mean = std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(errors.size());
  part.ninth_decile = quantile(errors, 0.9);
  if (errors.size() > 1) part.rank_correlation = rank_correlation(predicted, measured);
  return part;
}

}  // namespace

Result<TableJudgement> judge_table(const CsvTable& table, const RowFilter& filter, const HardwareProfile& hardware,
                                   std::int64_t thread_count) {
  if (is_step_table(table)) return judge_steps(table, hardware, thread_count);
  const std::optional<TableKind> kind = table_kind(table);
  if (!kind) {
    return Error{ErrorKind::BadInput, table.file.string(),
                 "has the columns of no table that moecast knows: products, experts, collectives or iteration times "
                 "(hwprofiles/README.md)"};
  }
  switch (*kind) {
    case TableKind::Products:
      return judge_products(table, filter, hardware);
    case TableKind::Experts:
      return judge_experts(table, filter, hardware);
    case TableKind::Collectives:
      break;
  }
  return judge_collectives(table, filter, hardware);
}

std::vector<RowErrors> errors_of(const std::vector<JudgedRow>& rows) {
  std::vector<RowErrors> parts;
  parts.push_back(errors_of_part("all rows", rows, [](const JudgedRow&) { return true; }));
  parts.push_back(errors_of_part("rows that fits use", rows, [](const JudgedRow& row) { return !row.held_out; }));
  parts.push_back(errors_of_part("rows kept apart", rows, [](const JudgedRow& row) { return row.held_out; }));
  std::map<std::string, int> names;
  for (const JudgedRow& row : rows) names[row.part] = 0;
  for (const auto& [name, unused] : names) {
    parts.push_back(errors_of_part("  " + name, rows,
                                   [&name = name](const JudgedRow& row) { return row.held_out && row.part == name; }));
  }
  return parts;
}

}  // namespace moecast
