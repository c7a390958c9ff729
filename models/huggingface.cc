#include "models/huggingface.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "models/huggingface_reader.h"
#include "models/moe_model_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

/// The text model of a multimodal one, or the whole.
const Json& text_part(const Json& json) {
  const auto text = json.find("text_config");
  return text != json.end() && text->is_object() ? *text : json;
}

std::string model_type_of(const Json& json) {
  const auto type = json.find("model_type");
  return type != json.end() && type->is_string() ? type->get<std::string>() : std::string();
}

bool names_architecture(const Json& json, std::string_view architecture) {
  const auto list = json.find("architectures");
  return list != json.end() && list->is_array() && std::find(list->begin(), list->end(), architecture) != list->end();
}

const HuggingFaceFamily* family_of(const Json& json) {
  const std::string type = model_type_of(text_part(json));
  for (const HuggingFaceFamily& family : huggingface_families()) {
    if (family.model_type == type || (type.empty() && names_architecture(json, family.architecture))) return &family;
  }
  return nullptr;
}

HuggingFaceReader reader_of_text(JsonReader& root, const Json& json) {
  return HuggingFaceReader(&text_part(json) == &json ? root : root.object("text_config"));
}

Error unknown_family(const JsonDocument& document) {
  std::vector<std::string_view> known;
  std::set<std::string, std::less<>> asked;
  for (const HuggingFaceFamily& family : huggingface_families()) {
    known.push_back(family.model_type);
    JsonReader scratch(document);
    HuggingFaceReader config = reader_of_text(scratch, document.json());
    MoeModel model;
    family.read(config, model);
    asked.insert(config.asked().begin(), config.asked().end());
  }
  JsonReader root(document);
  static_cast<void>(root.keys());  // the keys of a multimodal model around its text model
  const std::vector<std::string> unplaced = reader_of_text(root, document.json()).unplaced(asked);
  const Json& text = text_part(document.json());
  root.problem(&text == &document.json() ? "model_type" : "text_config", "unknown-value",
               fmt::format("one of the families {}", fmt::join(known, ", ")),
               fmt::format("\"{}\"; {}", model_type_of(text),
                           unplaced.empty() ? std::string("none of its keys is new to us")
                                            : fmt::format("keys without a place: {}", fmt::join(unplaced, ", "))));
  return root.finish().error();
}

/// Our own checks: heads that divide, experts that suffice ...
Status check(const MoeModel& model, const std::string& file) {
  const Result<JsonDocument> document = JsonDocument::parse(to_json(model).dump(), file + " as a model of moecast");
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  static_cast<void>(read_moe_model(reader));
  return reader.finish();
}

}  // namespace

bool is_huggingface_config(const JsonDocument& document) {
  const Json& json = document.json();
  return json.is_object() && (json.contains("model_type") || json.contains("architectures"));
}

Result<HuggingFaceModel> read_huggingface_config(const JsonDocument& document) {
  const HuggingFaceFamily* family = family_of(document.json());
  if (family == nullptr) return unknown_family(document);
  JsonReader root(document);
  static_cast<void>(root.keys());  // all known: place_the_rest tells which of them matter
  HuggingFaceReader config = reader_of_text(root, document.json());
  HuggingFaceModel out;
  out.model.name = config.text("_name_or_path", std::string(family->model_type));
  if (out.model.name.empty()) out.model.name = family->model_type;
  out.model.source = fmt::format("Hugging Face config.json, {}", family->model_type);
  family->read(config, out.model);
  config.place_the_rest(out.ignored);
  RETURN_IF_ERROR(root.finish());
  if (&text_part(document.json()) != &document.json()) out.model.source += "; its text model only";
  RETURN_IF_ERROR(check(out.model, document.file()));
  return out;
}

}  // namespace moecast
