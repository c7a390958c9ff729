#include "sim/campaign/campaign_source.h"

#include <fmt/format.h>

#include "sim/scenario.h"

namespace moecast {

namespace {

bool states_times(JsonReader& campaign) {
  JsonReader training = campaign.object("training", true);
  (void)training.keys();  // read later
  return !training.kind("step").empty() && !training.kind("forward_backward").empty();
}

void simulate_step(JsonReader& campaign, CampaignSource& source) {
  const std::int64_t ranks = source.workload->layout.world_size();
  if (ranks > source.hardware->rank_count()) {
    campaign.problem("hardware", "conflict",
                     fmt::format("a profile of at least the workload's {} ranks, or \"step\" and \"forward_backward\" "
                                 "in \"training\"",
                                 ranks),
                     fmt::format("{} of {}", source.hardware->rank_count(), source.hardware->name));
    return;
  }
  const Result<StepTimes> step = source.results.step(*source.workload, *source.hardware);
  if (step.ok()) {
    source.step = *step;
  } else {
    campaign.problem("workload", "conflict", "a step that can be simulated, or its times in \"training\"",
                     step.error().message);
  }
}

}  // namespace

CampaignSource read_source(JsonReader& campaign, const JsonDocument& document, WorkloadResults& results) {
  CampaignSource source{results};
  const std::size_t before = campaign.problem_count();
  if (campaign.has("workload")) source.workload = read_workload(campaign);
  if (campaign.has("hardware")) {
    if (!source.workload) campaign.problem("hardware", "conflict", "\"workload\" beside it: what runs on it", "none");
    source.hardware = read_hardware(campaign, document);
  }
  source.broken = campaign.problem_count() != before;
  if (source.broken) {
    source.workload.reset();
  } else if (source.workload && source.hardware && !states_times(campaign)) {
    simulate_step(campaign, source);
    source.broken = !source.step;
  }
  return source;
}

std::string describe(const Workload& workload) {
  const ParallelLayout& layout = workload.layout;
  return fmt::format("{} (data {}, expert {}, ZeRO {})", workload.model.name, layout.data, layout.expert,
                     layout.zero_stage);
}

}  // namespace moecast
