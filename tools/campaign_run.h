#pragma once

#include "base/json_document.h"
#include "tools/command.h"

namespace moecast {

/// Does the document describe weeks of training (an object "campaign"), and not a step?
[[nodiscard]] bool is_campaign(const JsonDocument& document);

/// The part of `moecast simulate` that follows such a document: replicas, their table and results; or, with --failures,
/// what strikes a replica; or, with --best-interval, the interval with the highest goodput.
[[nodiscard]] Status simulate_campaign(const CommandContext& context, JsonDocument document);

/// The options of `simulate` that only campaigns have.
[[nodiscard]] std::vector<OptionSpec> campaign_options();
/// BadInput if one of them is given.
[[nodiscard]] Status refuse_campaign_options(const Arguments& arguments);

}  // namespace moecast
