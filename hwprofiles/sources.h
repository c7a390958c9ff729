#pragma once

#include <string>

#include "hwprofiles/profile.h"

namespace moecast {

/// From now on everything at and below `pointer` comes from `source`: what was said of single numbers there is gone.
void set_source(HardwareProfile& profile, const std::string& pointer, Source source);

}  // namespace moecast
