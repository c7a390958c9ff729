#include "base/json_document.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_parser.h"

namespace moecast {

using json::Json;
using json::Positioned;

namespace {

using Chain = std::vector<std::filesystem::path>;  // the files being read, outermost first

Result<Positioned> load_text(std::string text, const std::string& name, const std::filesystem::path& folder,
                             const Chain& chain);

Result<Positioned> load_file(const std::filesystem::path& path, Chain chain) {
  std::error_code ignored;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, ignored);
  if (std::find(chain.begin(), chain.end(), canonical) != chain.end()) {
    std::string shown;
    for (const std::filesystem::path& link : chain) shown += link.filename().string() + " -> ";
    return Error{ErrorKind::BadInput, path.string(),
                 fmt::format("extends itself: {}{}", shown, canonical.filename().string())};
  }
  chain.push_back(canonical);
  Result<std::string> text = read_file(path);
  if (!text.ok()) return text.error();
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  return load_text(std::move(text).value(), path.string(), folder, chain);
}

/// The paths under "extends", each merged in order; the file itself comes on top.
Result<Positioned> load_bases(const Json& extends, const JsonPlace& place, const std::filesystem::path& folder,
                              const Chain& chain) {
  Positioned merged{Json::object(), {}};
  const std::vector<Json> bases = extends.is_array() ? extends.get<std::vector<Json>>() : std::vector<Json>(1, extends);
  for (const Json& base : bases) {
    if (!base.is_string()) {
      return Error{ErrorKind::BadInput,
                   "",
                   "",
                   {{place.file, place.line, place.column, "/extends", "wrong-type", "a path or a list of paths",
                     base.dump(), ""}}};
    }
    const Result<Positioned> loaded = load_file(folder / base.get<std::string>(), chain);
    if (!loaded.ok()) {
      Error error = loaded.error();
      if (error.problems.empty()) {
        error.place = fmt::format("{}:{}:{}: /extends: {}", place.file, place.line, place.column, error.place);
      }
      return error;
    }
    json::merge(merged, *loaded);
  }
  return merged;
}

Result<Positioned> load_text(std::string text, const std::string& name, const std::filesystem::path& folder,
                             const Chain& chain) {
  Result<Positioned> own = json::parse(std::make_shared<const json::Source>(json::Source{name, std::move(text)}));
  if (!own.ok() || !own->json.is_object() || !own->json.contains("extends")) return own;
  const json::LineColumn at = json::line_column(own->positions.at("/extends"));
  Result<Positioned> merged = load_bases(own->json["extends"], {name, at.line, at.column}, folder, chain);
  if (!merged.ok()) return merged;
  own->json.erase("extends");
  json::merge(*merged, *own);
  return merged;
}

/// The value at a pointer, for writing: objects on the way are made, elements of lists must exist.
Result<Json*> make_path(Json& root, std::string_view pointer) {
  const auto bad = [&](std::string message) {
    return Error{ErrorKind::BadInput, fmt::format("--set {}", pointer), std::move(message)};
  };
  if (!pointer.starts_with('/')) return bad("a JSON pointer starts with '/', as in /batch/sequence=128");
  if (static_cast<std::size_t>(std::count(pointer.begin(), pointer.end(), '/')) > json::kMaxDepth) {
    return bad(fmt::format("has more than {} levels", json::kMaxDepth));
  }
  Json* at = &root;
  std::string so_far;
  std::string_view rest = pointer;
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const std::string token = json::unescaped(rest.substr(0, slash));
    rest.remove_prefix(slash);
    if (at->is_null() && !so_far.empty()) *at = Json::object();
    if (at->is_array()) {
      std::size_t index = 0;
      const auto [end, code] = std::from_chars(token.data(), token.data() + token.size(), index);
      if (code != std::errc() || end != token.data() + token.size() || index >= at->size()) {
        return bad(fmt::format("{} is a list of {} elements; \"{}\" is none of them", so_far, at->size(), token));
      }
      at = &(*at)[index];
    } else if (at->is_object()) {
      at = &(*at)[token];
    } else {
      return bad(fmt::format("{} is neither an object nor a list", so_far.empty() ? "the document" : so_far));
    }
    so_far = json::child(so_far, token);
  }
  return at;
}

}  // namespace

struct JsonDocument::Data {
  std::string file;
  Positioned content;
};

JsonDocument::JsonDocument(std::unique_ptr<Data> data) : data_(std::move(data)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::read(const std::filesystem::path& path) {
  Result<Positioned> loaded = load_file(path, {});
  if (!loaded.ok()) return loaded.error();
  return JsonDocument(std::make_unique<Data>(Data{path.string(), std::move(loaded).value()}));
}

Result<JsonDocument> JsonDocument::parse(std::string_view text, std::string name, const std::filesystem::path& folder) {
  Result<Positioned> loaded = load_text(std::string(text), name, folder, {});
  if (!loaded.ok()) return loaded.error();
  return JsonDocument(std::make_unique<Data>(Data{std::move(name), std::move(loaded).value()}));
}

Status JsonDocument::set(std::string_view pointer, std::string_view value) {
  const Result<Json*> slot = make_path(data_->content.json, pointer);
  if (!slot.ok()) return slot.error();
  Result<Positioned> parsed =
      json::parse(std::make_shared<const json::Source>(json::Source{"--set", std::string(value)}));
  **slot = parsed.ok() ? std::move(parsed->json) : Json(std::string(value));
  auto name = std::make_shared<const json::Source>(json::Source{fmt::format("--set {}", pointer), ""});
  json::erase_below(data_->content.positions, pointer);
  data_->content.positions[std::string(pointer)] = {std::move(name), 0};
  return {};
}

const std::string& JsonDocument::file() const { return data_->file; }
const Json& JsonDocument::json() const { return data_->content.json; }

JsonPlace JsonDocument::place(std::string_view pointer) const {
  const json::Positions& positions = data_->content.positions;
  for (std::string_view at = pointer;; at = at.substr(0, at.rfind('/'))) {
    if (const auto found = positions.find(at); found != positions.end()) {
      const json::Source& source = *found->second.source;
      if (source.text.empty()) return {source.file, 0, 0};  // from --set
      const json::LineColumn place = json::line_column(found->second);
      return {source.file, place.line, place.column};
    }
    if (at.empty()) return {data_->file, 0, 0};
  }
}

}  // namespace moecast
