#pragma once

#include "base/units.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// Host memory that the policy's copies take on a node whose ranks all have as much state as the one that has most.
/// Copies that are written beside training: three buffers (MoC-System, arXiv 2408.04307, section 5.1;
/// models/checkpoint/buffers.h), with two levels also the last snapshot of every expert. Copies for peers: the newest
/// complete state and the next one, for each machine that holds it (Gemini, SOSP'23). A blocking checkpoint: one
/// buffer.
[[nodiscard]] Bytes host_memory_per_node(const CampaignScenario& scenario);

}  // namespace moecast
