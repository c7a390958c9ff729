#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario.h"

namespace moecast {

/// A scenario file of the source tree, with values set at JSON pointers.
[[nodiscard]] Scenario scenario_from(const std::string& file,
                                     const std::vector<std::pair<std::string, std::string>>& settings = {});

/// The text of an error, every problem included; "" if there is none.
[[nodiscard]] std::string problems_in(std::string_view scenario_text);

}  // namespace moecast
