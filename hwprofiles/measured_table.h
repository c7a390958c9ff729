#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/csv_table.h"
#include "base/result.h"
#include "base/units.h"
#include "hwprofiles/fit.h"
#include "hwprofiles/profile.h"
#include "hwprofiles/routed_experts.h"

namespace moecast {

/// Tables of measurements that others published as CSV files, told apart by their columns:
///   products     device, m, n, k, latency_ms                                       ([m,k] x [k,n], 2-byte elements)
///   experts      kernel, tokens, hidden, inter, top_k, experts, moe_tp, moe_ep, distribution, latency_ms
///   collectives  device, collective, gpus, bytes, latency_ms                  (bytes: the larger of sent and received)
/// Every second row (of collectives: size) is kept apart from fits.
enum class TableKind { Products, Experts, Collectives };
[[nodiscard]] std::optional<TableKind> table_kind(const CsvTable& table);

/// Only rows of this device or kernel count; empty: all.
struct RowFilter {
  std::string device, kernel;
};

struct ProductRow {
  KernelSample sample;
};
struct ExpertRow {
  std::string kernel, distribution;
  ExpertSample sample;
};
struct CollectiveRow {
  std::string device;
  LinkSample sample;
};

/// The rows of a table of that kind. BadInput with all bad fields, or if no row passes the filter.
[[nodiscard]] Result<std::vector<ProductRow>> read_products(const CsvTable& table, const RowFilter& filter);
[[nodiscard]] Result<std::vector<ExpertRow>> read_experts(const CsvTable& table, const RowFilter& filter);
[[nodiscard]] Result<std::vector<CollectiveRow>> read_collectives(const CsvTable& table, const RowFilter& filter);

/// Tables of one collective each, for LinkClass::measured, from the rows that are not held out: medians of repeats,
/// made to rise with size (fit_curve).
[[nodiscard]] std::map<Collective, CollectiveTable> fit_collectives(const std::vector<CollectiveRow>& rows);

/// `base` with the part that the table is about fitted to it: products to device.gemm, experts to device.grouped_gemm,
/// collectives (which must be of one device) to the measured tables of the cluster link by which GPUs are attached
/// first. Its "fit" says how far off the rows are that were used and those kept apart. BadInput for a table of other
/// columns, for bad fields, or without such a link.
[[nodiscard]] Result<HardwareProfile> refit(HardwareProfile base, const CsvTable& table, const RowFilter& filter);

}  // namespace moecast
