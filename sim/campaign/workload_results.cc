#include "sim/campaign/workload_results.h"

#include <nlohmann/json.hpp>

#include "base/random.h"
#include "hwprofiles/profile_json.h"
#include "sim/campaign/policy_json.h"

namespace moecast {

WorkloadResults::Key WorkloadResults::key_of(const std::string& text) {
  return {stream_of(text), stream_of("once more, so that the two hashes differ: " + text)};
}

Result<StepTimes> WorkloadResults::step(const Workload& workload, const HardwareProfile& hardware) {
  const Key key = key_of(to_json(workload).dump() + to_json(hardware).dump());
  return steps_.get(key, [&] { return simulated_step(workload, hardware); });
}

Result<CheckpointCosts> WorkloadResults::sizes(const Workload& workload, const PolicySettings& policy) {
  nlohmann::ordered_json settings = to_json(policy);
  settings.erase("interval");
  const Key key = key_of(to_json(workload).dump() + settings.dump());
  return sizes_.get(key, [&] { return planned_sizes(workload, policy); });
}

}  // namespace moecast
