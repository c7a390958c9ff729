#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace moecast {

/// Where a value came from. `line` and `column` start at 1; 0 means that it has none (a value from --set).
struct JsonPlace {
  std::string file;
  int line = 0;
  int column = 0;
};

/// A parsed JSON document in which every value knows the file, line and column that it came from.
///
/// Parsing is strict: no comments, no trailing commas, no duplicate keys, at most 64 levels. `"extends": "a.json"` (or
/// a list) in a file's top object merges those files first (RFC 7386: objects merge, arrays replace, null deletes),
/// paths relative to the file that names them; a cycle is an error that shows the chain.
class JsonDocument {
 public:
  [[nodiscard]] static Result<JsonDocument> read(const std::filesystem::path& path);
  /// Text that came from elsewhere; `name` stands for the file in messages. "extends" is relative to `folder`.
  [[nodiscard]] static Result<JsonDocument> parse(std::string_view text, std::string name,
                                                  const std::filesystem::path& folder = ".");

  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  /// The same once more.
  [[nodiscard]] JsonDocument clone() const;
  /// The object at a JSON pointer as a document of its own, merged over what its "extends" names.
  [[nodiscard]] Result<JsonDocument> part(std::string_view pointer) const;

  /// Sets the value at a JSON pointer ("/cluster/nodes"); `value` is JSON text, or, if it is not, a string. Missing
  /// objects on the way are made: a name that nothing reads is reported by JsonReader::finish as an unknown key.
  [[nodiscard]] Status set(std::string_view pointer, std::string_view value);
  /// The same with the value at `origin_pointer` of `origin`, which must exist: it keeps its place there (or that of
  /// the nearest value around it), for messages and for paths relative to its file.
  [[nodiscard]] Status put(std::string_view pointer, const JsonDocument& origin, std::string_view origin_pointer);
  /// The same with a value that was computed from the one at `origin_pointer` of this document, and has its place.
  [[nodiscard]] Status put_computed(std::string_view pointer, nlohmann::ordered_json value,
                                    std::string_view origin_pointer);

  [[nodiscard]] const std::string& file() const;
  /// The merged document, for storing beside results.
  [[nodiscard]] const nlohmann::ordered_json& json() const;
  /// The place of the value at a JSON pointer, or of the nearest value around it.
  [[nodiscard]] JsonPlace place(std::string_view pointer) const;

 private:
  struct Data;
  explicit JsonDocument(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace moecast
