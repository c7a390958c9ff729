#include "base/csv_table.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "base/file.h"

namespace moecast {
namespace {

Result<CsvTable> table_of(const std::string& text) {
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "moecast_csv_table_test.csv";
  EXPECT_TRUE(write_file_atomically(file, text).ok());
  Result<CsvTable> table = read_csv(file);
  std::filesystem::remove(file);
  return table;
}

TEST(CsvTable, ReadsColumnsByName) {
  const Result<CsvTable> table = table_of("device,m,latency_ms\r\nNVIDIA H200,16,0.5\r\nNVIDIA H200,32,1e-1\r\n");
  ASSERT_TRUE(table.ok()) << table.error().text();
  EXPECT_TRUE(table->has({"m", "device"}));
  EXPECT_FALSE(table->has({"m", "n"}));
  std::vector<Problem> problems;
  const CsvRow row(*table, 1, problems);
  EXPECT_EQ(row.text("device"), "NVIDIA H200");
  EXPECT_EQ(row.count("m"), 32);
  EXPECT_DOUBLE_EQ(row.number("latency_ms"), 0.1);
  EXPECT_TRUE(problems.empty());
}

TEST(CsvTable, NamesTheLineOfABadField) {
  const Result<CsvTable> table = table_of("m,t\n1,1\nx,-2\n");
  ASSERT_TRUE(table.ok());
  std::vector<Problem> problems;
  const CsvRow row(*table, 1, problems);
  EXPECT_EQ(row.count("m"), 0);
  EXPECT_EQ(row.number("t"), 0);
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].line, 3);
  EXPECT_EQ(problems[0].found, "x");
  EXPECT_EQ(problems[1].pointer, "t");
}

TEST(CsvTable, RefusesRaggedAndEmptyTables) {
  const Result<CsvTable> ragged = table_of("a,b\n1,2\n1,2,3\n");
  ASSERT_FALSE(ragged.ok());
  EXPECT_NE(ragged.error().text().find(":3"), std::string::npos) << ragged.error().text();
  EXPECT_FALSE(table_of("a,b\n").ok());
  EXPECT_FALSE(table_of("").ok());
  EXPECT_FALSE(read_csv("no_such_file.csv").ok());
}

}  // namespace
}  // namespace moecast
