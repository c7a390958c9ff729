#include "hwprofiles/sources.h"

namespace moecast {

void set_source(HardwareProfile& profile, const std::string& pointer, Source source) {
  std::erase_if(profile.sources, [&](const auto& entry) { return entry.first.starts_with(pointer + "/"); });
  profile.sources[pointer] = std::move(source);
}

}  // namespace moecast
