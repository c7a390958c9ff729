#include "runtime/checkpoint/file_names.h"

#include <charconv>

#include <fmt/format.h>

namespace moecast {

namespace {

constexpr std::string_view kTemporary = ".tmp";

/// Takes a number of at least `digits` digits from the front of `text`.
template <typename Integer>
bool take_number(std::string_view& text, std::size_t digits, Integer& value) {
  const char* begin = text.data();
  const auto [end, error] = std::from_chars(begin, begin + text.size(), value);
  if (error != std::errc() || value < 0 || static_cast<std::size_t>(end - begin) < digits) return false;
  text.remove_prefix(static_cast<std::size_t>(end - begin));
  return true;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string edit_file_name(std::int64_t edit) { return fmt::format("edit-{:09}.json", edit); }

std::string part_file_name(std::int64_t edit, std::int32_t rank) {
  return fmt::format("part-{:09}-{:04}.json", edit, rank);
}

std::string data_file_name(std::int64_t edit, std::int32_t rank, std::string_view content, std::size_t index) {
  return fmt::format("data-{:09}-{:04}-{}-{}.safetensors", edit, rank, content, index);
}

std::string temporary_name(std::string_view name) { return std::string(name) + std::string(kTemporary); }

std::optional<FileName> parse_file_name(std::string_view name) {
  if (name.ends_with(kTemporary)) {
    std::optional<FileName> inner = parse_file_name(name.substr(0, name.size() - kTemporary.size()));
    if (!inner || inner->kind == FileKind::Temporary) return std::nullopt;
    inner->kind = FileKind::Temporary;
    return inner;
  }
  if (name == kModelFileName) return FileName{};
  FileName out;
  std::string_view rest = name;
  if (take(rest, "edit-")) {
    out.kind = FileKind::Edit;
    if (!take_number(rest, 9, out.edit) || rest != ".json") return std::nullopt;
    return name == edit_file_name(out.edit) ? std::optional(out) : std::nullopt;
  }
  const bool part = rest.starts_with("part-");
  out.kind = part ? FileKind::Part : FileKind::Data;
  if (!take(rest, part ? "part-" : "data-")) return std::nullopt;
  if (!take_number(rest, 9, out.edit) || !take(rest, "-") || !take_number(rest, 4, out.rank)) return std::nullopt;
  if (part) return name == part_file_name(out.edit, out.rank) ? std::optional(out) : std::nullopt;
  for (const std::string_view content : {"base", "units"}) {
    std::string_view tail = rest;
    std::size_t index = 0;
    if (!take(tail, "-") || !take(tail, content) || !take(tail, "-") || !take_number(tail, 1, index)) continue;
    if (name == data_file_name(out.edit, out.rank, content, index)) return out;
  }
  return std::nullopt;
}

}  // namespace moecast
