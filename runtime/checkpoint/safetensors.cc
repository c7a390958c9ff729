#include "runtime/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "runtime/checkpoint/strict_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kLongestHeader = 100'000'000;
constexpr std::string_view kMetadata = "__metadata__";

/// Bytes of one element; no value for a dtype that the format does not have.
std::optional<std::int64_t> element_bytes(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, std::int64_t>, 15> kSizes = {{{"BOOL", 1},
                                                                                        {"U8", 1},
                                                                                        {"I8", 1},
                                                                                        {"F8_E5M2", 1},
                                                                                        {"F8_E4M3", 1},
                                                                                        {"I16", 2},
                                                                                        {"U16", 2},
                                                                                        {"F16", 2},
                                                                                        {"BF16", 2},
                                                                                        {"I32", 4},
                                                                                        {"U32", 4},
                                                                                        {"F32", 4},
                                                                                        {"F64", 8},
                                                                                        {"I64", 8},
                                                                                        {"U64", 8}}};
  for (const auto& [name, size] : kSizes) {
    if (name == dtype) return size;
  }
  return std::nullopt;
}

/// No value if a size is negative or the product does not fit into 63 bits.
std::optional<std::int64_t> bytes_of_shape(const std::vector<std::int64_t>& shape, std::int64_t element) {
  std::int64_t bytes = element;
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0) {
      empty = true;
    } else if (bytes > std::numeric_limits<std::int64_t>::max() / size) {
      return std::nullopt;
    } else {
      bytes *= size;
    }
  }
  return empty ? 0 : bytes;
}

Error bad(const std::string& place, std::string what) {
  return Error{ErrorKind::RunFailed, place, "not a valid safetensors file: " + std::move(what)};
}

Result<SafetensorsEntry> read_entry(const std::string& name, const Json& json, const std::string& place) {
  return read_values<SafetensorsEntry>(place, [&]() -> Result<SafetensorsEntry> {
    SafetensorsEntry entry;
    entry.name = name;
    entry.dtype = json.at("dtype").get<std::string>();
    const Json& offsets = json.at("data_offsets");
    if (json.size() != 3 || offsets.size() != 2) return bad(place, fmt::format("\"{}\" has other fields", name));
    for (const Json& value : {json.at("shape"), offsets}) {
      for (const Json& number : value) {
        if (!number.is_number_unsigned() || number.get<std::uint64_t>() > std::uint64_t{1} << 62) {
          return bad(place, fmt::format("\"{}\" has a number that is no size", name));
        }
      }
    }
    entry.shape = json.at("shape").get<std::vector<std::int64_t>>();
    entry.begin = Bytes(offsets[0].get<std::int64_t>());
    entry.end = Bytes(offsets[1].get<std::int64_t>());
    const std::optional<std::int64_t> element = element_bytes(entry.dtype);
    if (!element) return bad(place, fmt::format("\"{}\" has the unknown dtype \"{}\"", name, entry.dtype));
    const std::optional<std::int64_t> size = bytes_of_shape(entry.shape, *element);
    if (!size || *size != (entry.end - entry.begin).count()) {
      return bad(place, fmt::format("\"{}\" has {} bytes, but its shape asks for another number", name,
                                    (entry.end - entry.begin).count()));
    }
    return entry;
  });
}

Result<std::map<std::string, std::string>> read_metadata(const Json& json, const std::string& place) {
  std::map<std::string, std::string> metadata;
  if (!json.is_object()) return bad(place, "__metadata__ is no object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return bad(place, fmt::format("__metadata__ \"{}\" is no text", key));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

/// The entries tile the data: no gap, no overlap, up to the end of the file.
Status check_tiling(std::vector<SafetensorsEntry>& entries, Bytes data_size, const std::string& place) {
  std::ranges::stable_sort(entries, {},
                           [](const SafetensorsEntry& entry) { return std::pair(entry.begin, entry.end); });
  Bytes at{0};
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != at) {
      return bad(place, fmt::format("a gap or an overlap before \"{}\" at byte {}", entry.name, entry.begin.count()));
    }
    at = entry.end;
  }
  if (at != data_size) {
    return bad(place,
               fmt::format("the tensors end at byte {} of the data, the file at {}", at.count(), data_size.count()));
  }
  return {};
}

std::int64_t header_length(std::string_view text) {
  std::uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i)
    length = length << 8 | static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
  return static_cast<std::int64_t>(std::min<std::uint64_t>(length, std::uint64_t{1} << 62));
}

Status check_length(std::int64_t length, Bytes file_size, const std::string& place) {
  if (length > kLongestHeader) return bad(place, fmt::format("a header of {} bytes is too long", length));
  if (length + kLengthBytes > file_size.count()) return bad(place, "the file ends inside its header");
  return {};
}

}  // namespace

std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return "F32";
    case DType::F64:
      return "F64";
    case DType::BF16:
      return "BF16";
    case DType::I32:
      return "I32";
  }
  return "";
}

std::optional<DType> dtype_of(std::string_view name) {
  for (const DType dtype : {DType::F32, DType::F64, DType::BF16, DType::I32}) {
    if (safetensors_name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

void sort_for_file(std::vector<SafetensorsEntry>& entries) {
  std::ranges::sort(entries, [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    const std::int64_t size_a = element_bytes(a.dtype).value_or(0);
    const std::int64_t size_b = element_bytes(b.dtype).value_or(0);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
}

std::string make_header(std::vector<SafetensorsEntry>& entries, const std::map<std::string, std::string>& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json[std::string(kMetadata)] = metadata;
  Bytes at{0};
  for (SafetensorsEntry& entry : entries) {
    const std::optional<std::int64_t> element = element_bytes(entry.dtype);
    ASSERT(element, "{}", entry.dtype);
    const std::optional<std::int64_t> size = bytes_of_shape(entry.shape, *element);
    ASSERT(size, "{} has an impossible shape", entry.name);
    ASSERT(!json.contains(entry.name), "{} twice", entry.name);
    entry.begin = at;
    entry.end = at + Bytes(*size);
    at = entry.end;
    json[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin.count(), entry.end.count()}}};
  }
  std::string text = json.dump();
  const std::int64_t alignment = entries.empty() ? kLengthBytes : kDataAlignment;
  const std::int64_t used = kLengthBytes + static_cast<std::int64_t>(text.size());
  text.append(static_cast<std::size_t>((alignment - used % alignment) % alignment), ' ');
  std::string out;
  for (int i = 0; i < kLengthBytes; ++i) out += static_cast<char>(text.size() >> (8 * i) & 0xFF);
  return out + text;
}

Result<SafetensorsHeader> parse_header(std::string_view text, Bytes file_size, const std::string& place) {
  if (text.size() < static_cast<std::size_t>(kLengthBytes)) return bad(place, "the file ends inside its header");
  const std::int64_t length = header_length(text);
  RETURN_IF_ERROR(check_length(length, file_size, place));
  const std::string_view body = text.substr(kLengthBytes);
  if (static_cast<std::int64_t>(body.size()) != length) return bad(place, "the header is incomplete");
  if (!body.starts_with('{')) return bad(place, "the header does not begin with {");
  const Result<Json> json = parse_strictly(body, place);
  if (!json.ok()) return json.error();
  SafetensorsHeader header;
  header.data_begin = Bytes(kLengthBytes + length);
  for (const auto& [name, value] : json.value().items()) {
    if (name == kMetadata) {
      Result<std::map<std::string, std::string>> metadata = read_metadata(value, place);
      if (!metadata.ok()) return metadata.error();
      header.metadata = std::move(metadata).value();
      continue;
    }
    Result<SafetensorsEntry> entry = read_entry(name, value, place);
    if (!entry.ok()) return entry.error();
    header.entries.push_back(std::move(entry).value());
  }
  RETURN_IF_ERROR(check_tiling(header.entries, file_size - header.data_begin, place));
  return header;
}

Result<SafetensorsHeader> read_header(Environment& environment, const std::filesystem::path& path) {
  const Result<std::optional<Bytes>> size = environment.size(path);
  if (!size.ok()) return size.error();
  if (!size.value()) return environment_error(path, kMissing);
  const Bytes file_size = *size.value();
  if (file_size.count() < kLengthBytes) return bad(path.string(), "the file ends inside its header");
  std::string text(kLengthBytes, '\0');
  RETURN_IF_ERROR(environment.read(path, Bytes(0), std::as_writable_bytes(std::span<char>(text))));
  const std::int64_t length = header_length(text);
  RETURN_IF_ERROR(check_length(length, file_size, path.string()));
  text.resize(static_cast<std::size_t>(kLengthBytes + length));
  RETURN_IF_ERROR(environment.read(path, Bytes(0), std::as_writable_bytes(std::span<char>(text))));
  return parse_header(text, file_size, path.string());
}

}  // namespace moecast
