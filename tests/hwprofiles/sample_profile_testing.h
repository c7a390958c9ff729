#pragma once

#include "hwprofiles/profile.h"

namespace moecast::testing {

/// A complete profile with odd numbers everywhere, so that nothing survives a round trip by chance.
[[nodiscard]] HardwareProfile sample_profile();

}  // namespace moecast::testing
