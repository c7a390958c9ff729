#include "runtime/checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/file_names.h"
#include "runtime/checkpoint/record.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/strict_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPartFormat = "moecast-checkpoint-part";
constexpr std::string_view kEditFormat = "moecast-checkpoint-edit";
constexpr std::array kComponents = {Component::Weight, Component::Master, Component::FirstMoment,
                                    Component::SecondMoment, Component::Gradient};

Error odd(const std::string& place, std::string what) {
  return Error{ErrorKind::RunFailed, place, "not as the format says: " + std::move(what)};
}

/// The number of elements; no value if a size is negative or the product is beyond 2^56.
std::optional<std::int64_t> element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && count > (std::int64_t{1} << 56) / size)) return std::nullopt;
    count *= size;
  }
  return count;
}

Json json_of(const StoredFile& file) {
  return {{"name", file.name},
          {"bytes", file.size.count()},
          {"header_bytes", file.header.count()},
          {"header_crc32", to_hex(file.header_checksum)}};
}

Json json_of(const StoredSlice& slice) {
  return {{"tensor", slice.tensor},
          {"component", to_text(slice.component)},
          {"dtype", safetensors_name(slice.dtype)},
          {"shape", slice.shape},
          {"elements", {slice.elements.begin, slice.elements.end}},
          {"unit", slice.unit},
          {"file", slice.file},
          {"offset", slice.offset.count()},
          {"crc32", to_hex(slice.checksum)}};
}

/// Sets `good` to false if the text is no checksum.
std::uint32_t checksum_at(const Json& json, const char* key, bool& good) {
  const std::optional<std::uint32_t> value = from_hex(json.at(key).get<std::string>());
  good = good && value.has_value();
  return value.value_or(0);
}

Result<StoredFile> file_from(const Json& json, const Part& part, const std::string& place) {
  bool good = true;
  StoredFile file = {json.at("name").get<std::string>(), Bytes(json.at("bytes").get<std::int64_t>()),
                     Bytes(json.at("header_bytes").get<std::int64_t>()), checksum_at(json, "header_crc32", good)};
  const std::optional<FileName> name = parse_file_name(file.name);
  if (!name || name->kind != FileKind::Data || name->edit != part.edit || name->rank != part.rank) {
    return odd(place, fmt::format("\"{}\" is no file of this part", file.name));
  }
  if (!good || file.header < Bytes(0) || file.size < file.header) return odd(place, file.name + " has odd sizes");
  return file;
}

Result<StoredSlice> slice_from(const Json& json, const Part& part, const std::string& place) {
  StoredSlice slice;
  slice.tensor = json.at("tensor").get<std::string>();
  const Result<Component> component = parse_component(json.at("component").get<std::string>());
  const std::optional<DType> dtype = dtype_of(json.at("dtype").get<std::string>());
  if (!component.ok() || !dtype) return odd(place, slice.tensor + " has an unknown component or dtype");
  slice.component = component.value();
  slice.dtype = *dtype;
  slice.shape = json.at("shape").get<std::vector<std::int64_t>>();
  slice.elements = {json.at("elements").at(0).get<std::int64_t>(), json.at("elements").at(1).get<std::int64_t>()};
  slice.unit = json.at("unit").get<std::string>();
  slice.file = json.at("file").get<std::size_t>();
  slice.offset = Bytes(json.at("offset").get<std::int64_t>());
  bool good = true;
  slice.checksum = checksum_at(json, "crc32", good);
  const std::optional<std::int64_t> count = element_count(slice.shape);
  const bool inside = count && 0 <= slice.elements.begin && slice.elements.begin <= slice.elements.end &&
                      slice.elements.end <= *count && slice.file < part.files.size();
  if (!good || !inside || slice.offset < part.files[slice.file].header || slice.offset > part.files[slice.file].size ||
      slice.bytes() > part.files[slice.file].size - slice.offset) {
    return odd(place, slice.tensor + " lies outside of its tensor or its file");
  }
  return slice;
}

Json json_of(const Edit& edit) {
  Json history = Json::array();
  for (const EditRange& range : edit.history) history.push_back({range.first, range.last});
  Json parts = Json::array();
  for (const PartReference& part : edit.parts) {
    parts.push_back({{"bytes", part.size.count()}, {"crc32", to_hex(part.checksum)}});
  }
  return {{"edit", edit.number},
          {"step", edit.state.step},
          {"model", edit.fingerprint},
          {"layout",
           {{"data", edit.layout.data},
            {"expert", edit.layout.expert},
            {"tensor", edit.layout.tensor},
            {"pipeline", edit.layout.pipeline},
            {"zero_stage", edit.layout.zero_stage}}},
          {"data_position", edit.state.data_position},
          {"random_state", edit.state.random_state},
          {"policy", edit.state.policy},
          {"extra", edit.state.extra},
          {"history", history},
          {"parts", parts}};
}

}  // namespace

std::string_view to_text(Component component) {
  switch (component) {
    case Component::Weight:
      return "weight";
    case Component::Master:
      return "master";
    case Component::FirstMoment:
      return "first_moment";
    case Component::SecondMoment:
      return "second_moment";
    case Component::Gradient:
      return "gradient";
  }
  return "";
}

Result<Component> parse_component(std::string_view text) {
  for (const Component component : kComponents) {
    if (to_text(component) == text) return component;
  }
  return Error{ErrorKind::BadInput, std::string(text), "no component"};
}

bool StoredSlice::whole() const { return elements.begin == 0 && elements.end == element_count(shape); }

bool contains(const History& history, std::int64_t edit) {
  return std::ranges::any_of(history,
                             [edit](const EditRange& range) { return range.first <= edit && edit <= range.last; });
}

History extended(History history, std::int64_t first, std::int64_t last) {
  if (first > last) return history;
  ASSERT(history.empty() || history.back().last < first, "{} after {}", first, history.back().last);
  if (!history.empty() && history.back().last + 1 == first) {
    history.back().last = last;
  } else {
    history.push_back({first, last});
  }
  return history;
}

std::string to_text(const Part& part) {
  Json files = Json::array();
  for (const StoredFile& file : part.files) files.push_back(json_of(file));
  Json slices = Json::array();
  for (const StoredSlice& slice : part.slices) slices.push_back(json_of(slice));
  return frame(kPartFormat, {{"edit", part.edit}, {"rank", part.rank}, {"files", files}, {"slices", slices}});
}

std::string to_text(const Edit& edit) { return frame(kEditFormat, json_of(edit)); }

Result<Part> parse_part(std::string_view text, const std::string& place) {
  const Result<Json> json = unframe(kPartFormat, text, place);
  if (!json.ok()) return json.error();
  return read_values<Part>(place, [&]() -> Result<Part> {
    Part part;
    part.edit = json->at("edit").get<std::int64_t>();
    part.rank = json->at("rank").get<std::int32_t>();
    for (const Json& each : json->at("files")) {
      Result<StoredFile> file = file_from(each, part, place);
      if (!file.ok()) return file.error();
      part.files.push_back(std::move(file).value());
    }
    for (const Json& each : json->at("slices")) {
      Result<StoredSlice> slice = slice_from(each, part, place);
      if (!slice.ok()) return slice.error();
      part.slices.push_back(std::move(slice).value());
    }
    return part;
  });
}

Result<Edit> parse_edit(std::string_view text, const std::string& place) {
  const Result<Json> json = unframe(kEditFormat, text, place);
  if (!json.ok()) return json.error();
  return read_values<Edit>(place, [&]() -> Result<Edit> {
    Edit edit;
    edit.number = json->at("edit").get<std::int64_t>();
    edit.fingerprint = json->at("model").get<std::string>();
    const Json& layout = json->at("layout");
    edit.layout = {layout.at("data").get<std::int64_t>(), layout.at("expert").get<std::int64_t>(),
                   layout.at("tensor").get<std::int64_t>(), layout.at("pipeline").get<std::int64_t>(),
                   layout.at("zero_stage").get<int>()};
    edit.state = {json->at("step").get<std::int64_t>(), json->at("data_position").get<std::int64_t>(),
                  json->at("random_state").get<std::string>(), json->at("policy").get<std::string>(),
                  json->at("extra").get<std::map<std::string, std::string>>()};
    std::int64_t before = 0;
    for (const Json& range : json->at("history")) {
      edit.history.push_back({range.at(0).get<std::int64_t>(), range.at(1).get<std::int64_t>()});
      if (edit.history.back().first <= before || edit.history.back().last < edit.history.back().first) {
        return odd(place, "the history does not ascend");
      }
      before = edit.history.back().last;
    }
    if (edit.number <= before) return odd(place, "the history contains the edit itself");
    bool good = true;
    for (const Json& part : json->at("parts")) {
      edit.parts.push_back({Bytes(part.at("bytes").get<std::int64_t>()), checksum_at(part, "crc32", good)});
    }
    if (!good) return odd(place, "a part has no checksum");
    return edit;
  });
}

}  // namespace moecast
