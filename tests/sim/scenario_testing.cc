#include "tests/sim/scenario_testing.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace moecast {

Scenario scenario_from(const std::string& file, const std::vector<std::pair<std::string, std::string>>& settings) {
  Result<JsonDocument> document = JsonDocument::read(std::filesystem::path(MOECAST_SOURCE_DIR) / file);
  EXPECT_TRUE(document.ok()) << (document.ok() ? "" : document.error().text());
  if (!document.ok()) return {};
  for (const auto& [pointer, value] : settings) {
    const Status status = document->set(pointer, value);
    EXPECT_TRUE(status.ok()) << pointer;
  }
  Result<Scenario> scenario = read_scenario(*document);
  EXPECT_TRUE(scenario.ok()) << (scenario.ok() ? "" : scenario.error().text());
  return scenario.ok() ? std::move(scenario).value() : Scenario{};
}

std::string problems_in(std::string_view scenario_text) {
  const std::filesystem::path folder = std::filesystem::path(MOECAST_SOURCE_DIR) / "tests/sim/golden";
  const Result<JsonDocument> document = JsonDocument::parse(scenario_text, (folder / "test.json").string(), folder);
  if (!document.ok()) return document.error().text();
  const Result<Scenario> scenario = read_scenario(*document);
  return scenario.ok() ? "" : scenario.error().text();
}

}  // namespace moecast
