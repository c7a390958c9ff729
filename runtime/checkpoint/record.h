#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

// Only for runtime/checkpoint/*.cc: the frame of every JSON file in a checkpoint folder (FORMAT.md). Line 1 is the
// record: {"format": "moecast-checkpoint-...", "version": 1, ...}. Line 2 says its length and checksum.
namespace moecast {

inline constexpr int kFormatVersion = 1;
/// How the message begins if a file is intact and of a version that we do not know; kind BadInput.
inline constexpr std::string_view kNewerFormat = "written by a newer version of moecast";

/// `record` without "format" and "version", which come first.
[[nodiscard]] std::string frame(std::string_view format, const nlohmann::ordered_json& record);
/// BadInput for an intact file of a newer version; RunFailed for everything that a crash or a bad disk leaves behind.
[[nodiscard]] Result<nlohmann::ordered_json> unframe(std::string_view format, std::string_view text,
                                                     const std::string& place);

}  // namespace moecast
