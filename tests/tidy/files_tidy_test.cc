#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include <fmt/format.h>

#include "tests/tidy/tree_testing.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_tree::content;
using testing_tree::has_program;
using testing_tree::run_shell;
using testing_tree::source_files;
using testing_tree::source_files_ending;

std::string joined(const std::vector<fs::path>& paths) {
  std::string out;
  for (const fs::path& path : paths) out += " '" + path.string() + "'";
  return out;
}

TEST(Files, AreFormatted) {
  if (!has_program("clang-format")) GTEST_SKIP() << "clang-format is not installed";
  const std::string version = run_shell("clang-format --version").text;
  if (version.find("version 14.") == std::string::npos) {
    GTEST_SKIP() << "clang-format 14 decides; other versions format otherwise: " << version;
  }
  std::vector<fs::path> files = source_files_ending({".h", ".cc", ".cu", ".cuh"});
  const auto result =
      run_shell("clang-format --dry-run --Werror" + joined(files) + " 2>&1 | grep 'error:' | cut -d: -f1 | sort -u");
  EXPECT_EQ(result.text, "") << "clang-format -i mends these";
}

TEST(Files, KeepCMakesLowerBoundWhereCuda13Configures) {
  std::smatch match;
  const std::string text = content("CMakeLists.txt");
  ASSERT_TRUE(std::regex_search(text, match, std::regex("cmake_minimum_required\\(VERSION ([0-9]+)\\.([0-9]+)")));
  const int version = std::stoi(match[1]) * 100 + std::stoi(match[2]);
  EXPECT_LE(version, 324) << "FindCUDAToolkit of a stock CMake 3.25.1 aborts on CUDA 13 above 3.24";
}

TEST(Files, OfOthersAreUnchanged) {
  const std::string readme = content("third_party/uplot/README.md");
  const std::regex row("\\| `([^`]+)` \\| ([0-9a-f]{64}) \\|");
  int count = 0;
  for (std::sregex_iterator it(readme.begin(), readme.end(), row), end; it != end; ++it, ++count) {
    const std::string file = (*it)[1];
    EXPECT_EQ(run_shell(fmt::format("sha256sum third_party/uplot/{} | cut -c1-64", file)).text, (*it)[2].str() + "\n")
        << file;
  }
  EXPECT_EQ(count, 2);
  EXPECT_TRUE(fs::exists(testing_tree::source_folder() / "third_party/uplot/LICENSE"));
}

TEST(Files, NameNoMachine) {
  const std::regex machine("(^|[\"'= (])/(home|work|root|Users|mnt)/[A-Za-z0-9_.-]");
  for (const fs::path& path : source_files()) {
    const std::string first = path.begin()->string();
    if (first == "third_party" || path.filename() == "files_tidy_test.cc" || path.extension() == ".txt") continue;
    std::smatch match;
    const std::string text = content(path);
    EXPECT_FALSE(std::regex_search(text, match, machine)) << path << ": " << match.str();
  }
}

TEST(Files, AreTextWithUnixLines) {
  for (const fs::path& path :
       source_files_ending({".h", ".cc", ".cu", ".cuh", ".json", ".md", ".cmake", ".sh", ".js"})) {
    if (path.begin()->string() == "third_party") continue;
    const std::string text = content(path);
    EXPECT_EQ(text.find('\r'), std::string::npos) << path;
    EXPECT_TRUE(text.empty() || text.back() == '\n') << path << " ends without a newline";
  }
}

TEST(Files, EveryFolderSaysWhatItHolds) {
  for (const char* folder : {"base", "models", "hwprofiles", "sim", "runtime", "tools", "experiments"}) {
    EXPECT_NE(content(fs::path(folder) / "README.md"), "") << folder << " has no README.md";
  }
}

}  // namespace
}  // namespace moecast
