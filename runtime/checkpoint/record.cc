#include "runtime/checkpoint/record.h"

#include <fmt/format.h>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/strict_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

std::string check_line(std::string_view line) {
  const Json check = {{"bytes", line.size()}, {"crc32", to_hex(crc32_of(bytes_of(line)))}};
  return check.dump() + "\n";
}

Error damaged(const std::string& place, std::string_view what) {
  return Error{ErrorKind::RunFailed, place, fmt::format("damaged: {}", what)};
}

}  // namespace

std::string frame(std::string_view format, const Json& record) {
  Json line = {{"format", format}, {"version", kFormatVersion}};
  line.update(record);
  const std::string text = line.dump() + "\n";
  return text + check_line(text);
}

Result<Json> unframe(std::string_view format, std::string_view text, const std::string& place) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return damaged(place, "the file ends inside its first line");
  const std::string_view line = text.substr(0, end + 1);
  if (text.substr(end + 1) != check_line(line)) return damaged(place, "length or checksum are wrong");
  const Result<Json> json = parse_strictly(line, place);
  if (!json.ok()) return json;
  return read_values<Json>(place, [&]() -> Result<Json> {
    if (json->at("format").get<std::string>() != format) return damaged(place, "another kind of file");
    const std::int64_t version = json->at("version").get<std::int64_t>();
    if (version > kFormatVersion) {
      return Error{ErrorKind::BadInput, place,
                   fmt::format("{}: its format has version {}, this program reads up to {}", kNewerFormat, version,
                               kFormatVersion)};
    }
    if (version < 1) return damaged(place, "no valid version");
    return json;
  });
}

}  // namespace moecast
