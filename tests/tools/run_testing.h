#pragma once

#include <filesystem>
#include <string>

#include "models/timeline_json.h"

namespace moecast::testing_runs {

/// A dense block and a MoE block (4 experts, top-1, shared expert, ScMoE Pos-2 with a shortcut schedule) on two expert
/// ranks; sequential or shortcut.
[[nodiscard]] Workload small_workload(ScheduleKind schedule = ScheduleKind::Shortcut);

/// Three steps of it on both ranks: an operator takes `unit` on the compute lane, three on any other.
[[nodiscard]] Timeline made_up_timeline(const Workload& workload, Duration unit);

/// Writes a result folder as `moecast train` or `simulate` does (`command`).
void write_run(const std::filesystem::path& folder, const std::string& command, const std::string& name, Duration unit,
               ScheduleKind schedule = ScheduleKind::Shortcut);

}  // namespace moecast::testing_runs
