#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moecast {

/// The candidate with the smallest edit distance (Levenshtein) to `name`, if that is at most max(1, length / 3); the
/// first of several. Else "". For "did you mean".
[[nodiscard]] std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace moecast
