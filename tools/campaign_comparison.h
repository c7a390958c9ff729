#pragma once

#include <filesystem>

#include "tools/command.h"

namespace moecast {

/// Is it the result folder of a campaign (and not of a step or a training run)?
[[nodiscard]] bool is_campaign_result(const std::filesystem::path& folder);

/// `moecast compare` for result folders of campaigns: one row each, reductions relative to the first.
[[nodiscard]] Status compare_campaigns(const CommandContext& context);

}  // namespace moecast
