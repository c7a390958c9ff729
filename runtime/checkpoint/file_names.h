#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moecast {

/// The files of a checkpoint folder (FORMAT.md). Every name but model.json holds the number of its edit; numbers are
/// never reused, so no name is either.
enum class FileKind {
  Model,      // model.json
  Edit,       // edit-000000012.json
  Part,       // part-000000012-0003.json
  Data,       // data-000000012-0003-base-0.safetensors, data-000000012-0003-units-0.safetensors
  Temporary,  // any of these with .tmp at the end
};

struct FileName {
  FileKind kind = FileKind::Model;
  std::int64_t edit = 0;  // 0 for the model's
  std::int32_t rank = 0;  // of parts and data
  friend bool operator==(const FileName&, const FileName&) = default;
};

inline constexpr std::string_view kModelFileName = "model.json";
[[nodiscard]] std::string edit_file_name(std::int64_t edit);
[[nodiscard]] std::string part_file_name(std::int64_t edit, std::int32_t rank);
/// `content`: "base" (non-expert state) or "units" (experts).
[[nodiscard]] std::string data_file_name(std::int64_t edit, std::int32_t rank, std::string_view content,
                                         std::size_t index);
[[nodiscard]] std::string temporary_name(std::string_view name);

/// No value for a name that none of the functions above makes.
[[nodiscard]] std::optional<FileName> parse_file_name(std::string_view name);

}  // namespace moecast
