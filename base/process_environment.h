#pragma once

#include <functional>
#include <string>

namespace moecast {

/// An environment variable's value; "" if it is not set.
using EnvironmentLookup = std::function<std::string(const char*)>;
[[nodiscard]] std::string environment_of_process(const char* name);

}  // namespace moecast
