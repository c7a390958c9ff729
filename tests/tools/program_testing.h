#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moecast::testing_program {

struct Outcome {
  int exit_code = -1;
  std::string out;  // stdout
  std::string err;  // stderr
};

/// Runs the built `moecast` with these words in `folder`; no terminal, no colour asked for.
[[nodiscard]] Outcome run_moecast(const std::vector<std::string>& words, const std::filesystem::path& folder = ".");

/// Runs a shell script to which $MOECAST is the built program.
[[nodiscard]] Outcome run_shell(const std::string& script, const std::filesystem::path& folder = ".");

/// A folder of the running test's own, empty at first, gone at the end.
class TestFolder {
 public:
  TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  ~TestFolder();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Writes a file into it and returns its path.
  std::filesystem::path file(const std::string& name, const std::string& content) const;
  /// Names of everything in it, hidden files too, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

[[nodiscard]] std::filesystem::path source_folder();

}  // namespace moecast::testing_program
