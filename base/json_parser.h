#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"

// Only for base/json_*.cc: the JSON library stays behind JsonDocument and JsonReader.
namespace moecast::json {

using Json = nlohmann::ordered_json;

/// A text with its name. Lines and columns are counted only when somebody asks.
struct Source {
  std::string file;
  std::string text;
};

/// Where a value starts. Shared: the places of a merged document lie in several sources, all equally alive.
struct Position {
  std::shared_ptr<const Source> source;
  std::size_t offset = 0;
};
using Positions = std::map<std::string, Position, std::less<>>;  // by JSON pointer

struct Positioned {
  Json json;
  Positions positions;
};

struct LineColumn {
  int line = 1;    // from 1
  int column = 1;  // from 1, in characters (UTF-8)
};
[[nodiscard]] LineColumn line_column(const Position& position);

/// Parses strictly: no comments, no trailing commas, no duplicate keys, at most kMaxDepth levels. All duplicate keys
/// are reported together; a syntax error ends the parse.
[[nodiscard]] Result<Positioned> parse(std::shared_ptr<const Source> source);
inline constexpr std::size_t kMaxDepth = 64;

/// RFC 7386 merge patch that carries the positions along.
void merge(Positioned& target, const Positioned& patch);

/// `pointer` and everything below it.
void erase_below(Positions& positions, std::string_view pointer);

/// The pointer of a child: "/" and "~" in keys are escaped (RFC 6901).
[[nodiscard]] std::string child(std::string_view pointer, std::string_view key);
[[nodiscard]] std::string unescaped(std::string_view token);

}  // namespace moecast::json
