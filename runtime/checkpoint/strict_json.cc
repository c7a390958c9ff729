#include "runtime/checkpoint/strict_json.h"

#include <set>
#include <vector>

#include <fmt/format.h>

namespace moecast {

Result<nlohmann::ordered_json> parse_strictly(std::string_view text, const std::string& place) {
  using Event = nlohmann::ordered_json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string twice;
  const auto watch = [&](int, Event event, nlohmann::ordered_json& value) {
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) twice = value.get<std::string>();
    return true;
  };
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(text, watch, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Error{ErrorKind::RunFailed, place, "not valid JSON"};
  if (!twice.empty()) return Error{ErrorKind::RunFailed, place, fmt::format("the key \"{}\" stands twice", twice)};
  return json;
}

}  // namespace moecast
