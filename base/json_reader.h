#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/assert.h"
#include "base/json_document.h"
#include "base/result.h"
#include "base/units.h"

namespace moecast {

/// A table of names for an enumeration: the first spelling of a value is the one that is printed.
template <typename E>
using EnumNames = std::vector<std::pair<std::string_view, E>>;

/// The spelling that is printed; every enumerator must be in the table.
template <typename E>
[[nodiscard]] std::string_view name_of(const EnumNames<E>& names, E value) {
  for (const auto& [name, candidate] : names) {
    if (candidate == value) return name;
  }
  ASSERT(false, "a value without a name: {}", static_cast<std::int64_t>(value));
}

/// Reads one object of a document, key by key. Every problem is collected (at most 50), none throws; keys that nobody
/// asked for are problems too, with the nearest known key. Usage:
///
///   JsonReader reader(document);
///   config.steps = reader.integer("steps", 1, 1'000'000);             // required
///   config.seed = reader.integer("seed", 0, kMax, config.seed);       // optional: the default is the last argument
///   JsonReader link = reader.object("link"); ... ; link is checked when reader finishes
///   RETURN_IF_ERROR(reader.finish());
///
/// The document outlives its readers and stays where it is.
/// A required key that is missing or wrong gives a default-constructed value; finish() says so.
class JsonReader {
 public:
  explicit JsonReader(const JsonDocument& document);

  /// Is there such a key? Counts as asking for it.
  [[nodiscard]] bool has(std::string_view key);

  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                                     std::optional<std::int64_t> fallback = std::nullopt);
  [[nodiscard]] double number(std::string_view key, double low, double high,
                              std::optional<double> fallback = std::nullopt);
  [[nodiscard]] bool boolean(std::string_view key, std::optional<bool> fallback = std::nullopt);
  [[nodiscard]] std::string text(std::string_view key, std::optional<std::string> fallback = std::nullopt);
  /// A path relative to the file in which it stands, made relative to the working folder.
  [[nodiscard]] std::filesystem::path path(std::string_view key,
                                           std::optional<std::filesystem::path> fallback = std::nullopt);
  [[nodiscard]] Bytes bytes(std::string_view key, std::optional<Bytes> fallback = std::nullopt);
  [[nodiscard]] Flops flops(std::string_view key, std::optional<Flops> fallback = std::nullopt);
  [[nodiscard]] BytesPerSecond bytes_per_second(std::string_view key,
                                                std::optional<BytesPerSecond> fallback = std::nullopt);
  [[nodiscard]] FlopsPerSecond flops_per_second(std::string_view key,
                                                std::optional<FlopsPerSecond> fallback = std::nullopt);
  [[nodiscard]] Duration duration(std::string_view key, std::optional<Duration> fallback = std::nullopt);
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key, std::int64_t low, std::int64_t high);
  [[nodiscard]] std::vector<double> numbers(std::string_view key, double low, double high);
  [[nodiscard]] std::vector<std::string> texts(std::string_view key);

  template <typename E>
  [[nodiscard]] E choice(std::string_view key, const EnumNames<E>& names, std::optional<E> fallback = std::nullopt) {
    std::vector<std::string_view> spellings;
    for (const auto& entry : names) spellings.push_back(entry.first);
    const std::optional<std::size_t> index = choice_index(key, spellings, fallback.has_value());
    return index ? names[*index].second : fallback.value_or(E{});
  }

  /// A nested object; an empty one if the key is missing (a problem unless `optional`).
  [[nodiscard]] JsonReader object(std::string_view key, bool optional = false);
  /// The elements of an array of objects, in order; empty if the key is missing (a problem unless `optional`).
  [[nodiscard]] std::vector<JsonReader> objects(std::string_view key, bool optional = false);
  /// Every key of this object in file order: for maps whose keys are data. All count as known.
  [[nodiscard]] std::vector<std::string> keys();
  /// Takes the value as it is, without looking inside.
  [[nodiscard]] nlohmann::ordered_json raw(std::string_view key);

  /// What kind of JSON value stands at the key ("string", "object", "array", "number", "boolean"); "" if none.
  [[nodiscard]] std::string kind(std::string_view key);

  /// Reports a problem of the caller's own at `key` (or at this object when empty).
  void problem(std::string_view key, std::string code, std::string expected, std::string found = {},
               std::string suggestion = {});
  /// Reports what went wrong with another file that this document names at `key`: that file's problems as they are, or
  /// one problem at `key` if the error carries none.
  void problems_of(std::string_view key, const Error& error);
  [[nodiscard]] std::string pointer() const;  // of this object
  /// Problems reported so far in the whole document: unchanged over a few reads means that they can be relied upon.
  [[nodiscard]] std::size_t problem_count() const;
  /// True as long as nothing was reported in the whole document.
  [[nodiscard]] bool good() const;

  /// Ok, or BadInput with every problem of the whole document, unknown keys included. Call on the root reader.
  [[nodiscard]] Status finish();

 private:
  struct State;
  JsonReader(std::shared_ptr<State> state, std::size_t node);
  [[nodiscard]] std::optional<std::size_t> choice_index(std::string_view key,
                                                        const std::vector<std::string_view>& names, bool optional);
  const nlohmann::ordered_json* find(std::string_view key, bool optional);
  template <typename T, typename Parse>
  T unit(std::string_view key, const std::optional<T>& fallback, Parse parse);

  std::shared_ptr<State> state_;  // shared by the readers of one document: all report into one list
  std::size_t node_ = 0;
};

}  // namespace moecast
