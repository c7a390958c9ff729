#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

// Only for runtime/checkpoint/*.cc. Files that a crash or somebody else wrote: JSON that nothing has checked yet.
namespace moecast {

/// Strict: one value, no duplicate keys. RunFailed with `place` otherwise. Unlike JsonDocument it follows no "extends"
/// and keeps no positions: headers of 100 MB and names of any kind are data here.
[[nodiscard]] Result<nlohmann::ordered_json> parse_strictly(std::string_view text, const std::string& place);

/// Runs `read`, which takes values out of JSON with at() and get(), and turns what these throw into an error at
/// `place`.
template <typename T, typename Read>
[[nodiscard]] Result<T> read_values(const std::string& place, Read read) {
  try {
    return read();
  } catch (const nlohmann::json::exception& exception) {
    return Error{ErrorKind::RunFailed, place, std::string("not as the format says: ") + exception.what()};
  }
}

}  // namespace moecast
