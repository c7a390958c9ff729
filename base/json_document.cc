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

/// `own` over what it extends.
Result<Positioned> merge_over_bases(Positioned own, const std::filesystem::path& folder, const Chain& chain) {
  if (!own.json.is_object() || !own.json.contains("extends")) return own;
  const json::Position& position = own.positions.at("/extends");
  const json::LineColumn at = json::line_column(position);
  Result<Positioned> merged =
      load_bases(own.json["extends"], {position.source->file, at.line, at.column}, folder, chain);
  if (!merged.ok()) return merged;
  own.json.erase("extends");
  json::merge(*merged, own);
  return merged;
}

Result<Positioned> load_text(std::string text, const std::string& name, const std::filesystem::path& folder,
                             const Chain& chain) {
  Result<Positioned> own = json::parse(std::make_shared<const json::Source>(json::Source{name, std::move(text)}));
  if (!own.ok()) return own;
  return merge_over_bases(std::move(own).value(), folder, chain);
}

/// The places at and below `from`, as those of the same value at `to`.
void copy_positions(const json::Positions& source, std::string_view from, json::Positions& target,
                    std::string_view to) {
  for (auto at = source.lower_bound(from); at != source.end() && at->first.starts_with(from); ++at) {
    const std::string_view rest = std::string_view(at->first).substr(from.size());
    if (rest.empty() || rest.front() == '/') target[std::string(to).append(rest)] = at->second;
  }
}

/// The place of the value at a pointer, or of the nearest value around it; null if there is none.
const json::Position* nearest_position(const json::Positions& positions, std::string_view pointer) {
  for (std::string_view at = pointer;; at = at.substr(0, at.rfind('/'))) {
    if (const auto found = positions.find(at); found != positions.end()) return &found->second;
    if (at.empty()) return nullptr;
  }
}

/// The value at a pointer, for writing: objects on the way are made, elements of lists must exist.
Result<Json*> make_path(Json& root, std::string_view pointer, std::string place) {
  const auto bad = [&](std::string message) {
    return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
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

JsonDocument JsonDocument::clone() const { return JsonDocument(std::make_unique<Data>(*data_)); }

Result<JsonDocument> JsonDocument::part(std::string_view pointer) const {
  Positioned own{data_->content.json.at(Json::json_pointer(std::string(pointer))), {}};
  copy_positions(data_->content.positions, pointer, own.positions, "");
  const JsonPlace at = place(pointer);
  const std::filesystem::path file(at.file);
  Result<Positioned> merged =
      merge_over_bases(std::move(own), file.has_parent_path() ? file.parent_path() : std::filesystem::path("."), {});
  if (!merged.ok()) return merged.error();
  return JsonDocument(std::make_unique<Data>(Data{at.file, std::move(merged).value()}));
}

Status JsonDocument::put(std::string_view pointer, const JsonDocument& origin, std::string_view origin_pointer) {
  std::vector<std::string> made;  // on the way to the value
  for (std::size_t end = pointer.find('/', 1); end != std::string_view::npos; end = pointer.find('/', end + 1)) {
    std::string parent(pointer.substr(0, end));
    if (!data_->content.json.contains(Json::json_pointer(parent))) made.push_back(std::move(parent));
  }
  const Result<Json*> slot = make_path(data_->content.json, pointer, std::string(pointer));
  if (!slot.ok()) return slot.error();
  **slot = origin.json().at(Json::json_pointer(std::string(origin_pointer)));
  json::erase_below(data_->content.positions, pointer);
  copy_positions(origin.data_->content.positions, origin_pointer, data_->content.positions, pointer);
  if (const json::Position* around = nearest_position(origin.data_->content.positions, origin_pointer)) {
    data_->content.positions[std::string(pointer)] = *around;
    for (const std::string& parent : made) data_->content.positions[parent] = *around;
  }
  return {};
}

Status JsonDocument::put_computed(std::string_view pointer, Json value, std::string_view origin_pointer) {
  const auto found = data_->content.positions.find(origin_pointer);
  ASSERT(found != data_->content.positions.end(), "nothing at {}", origin_pointer);
  const json::Position position = found->second;
  const Result<Json*> slot = make_path(data_->content.json, pointer, std::string(pointer));
  if (!slot.ok()) return slot.error();
  **slot = std::move(value);
  json::erase_below(data_->content.positions, pointer);
  data_->content.positions[std::string(pointer)] = position;
  return {};
}

Status JsonDocument::set(std::string_view pointer, std::string_view value) {
  const Result<Json*> slot = make_path(data_->content.json, pointer, fmt::format("--set {}", pointer));
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
  const json::Position* found = nearest_position(data_->content.positions, pointer);
  if (found == nullptr) return {data_->file, 0, 0};
  if (found->source->text.empty()) return {found->source->file, 0, 0};  // from --set
  const json::LineColumn place = json::line_column(*found);
  return {found->source->file, place.line, place.column};
}

}  // namespace moecast
