#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_reader.h"
#include "models/moe_model.h"

namespace moecast {

/// One object of a config.json: null counts as absent, a value may have several names, and the keys that were asked for
/// are remembered.
class HuggingFaceReader {
 public:
  using Names = std::initializer_list<std::string_view>;
  explicit HuggingFaceReader(JsonReader reader) : reader_(std::move(reader)) {}

  [[nodiscard]] bool has(std::string_view key);
  /// 1 or more; 0 or more with a fallback of 0. Without fallback one of the names must be there.
  [[nodiscard]] std::int64_t count(Names names, std::optional<std::int64_t> fallback = std::nullopt);
  [[nodiscard]] double number(std::string_view key, double fallback);
  [[nodiscard]] bool boolean(std::string_view key, bool fallback);
  [[nodiscard]] std::string text(std::string_view key, std::string fallback);
  [[nodiscard]] std::vector<std::int64_t> counts(std::string_view key);  // empty if absent
  [[nodiscard]] std::vector<std::string> texts(std::string_view key);
  [[nodiscard]] HuggingFaceReader object(std::string_view key);
  void problem(std::string_view key, std::string expected, std::string found);

  [[nodiscard]] const std::set<std::string, std::less<>>& asked() const { return asked_; }
  /// Keys that nobody asked for: reported as problems if they look as if they mattered, else added to `ignored`.
  void place_the_rest(std::vector<std::string>& ignored);
  /// Such keys that mattered, without reporting them; `known` counts as asked for.
  [[nodiscard]] std::vector<std::string> unplaced(const std::set<std::string, std::less<>>& known);

 private:
  [[nodiscard]] bool matters(const std::string& key);
  JsonReader reader_;
  std::set<std::string, std::less<>> asked_;
};

struct HuggingFaceFamily {
  std::string_view model_type;
  std::string_view architecture;
  void (*read)(HuggingFaceReader& config, MoeModel& model);
};
/// All that we know. `read` fills everything but the name; what it leaves out it adds to MoeModel::source.
[[nodiscard]] const std::vector<HuggingFaceFamily>& huggingface_families();

}  // namespace moecast
