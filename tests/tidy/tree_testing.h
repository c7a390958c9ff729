#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moecast::testing_tree {

/// The source tree that the tests were built from.
[[nodiscard]] std::filesystem::path source_folder();
/// Every file of the tree, relative to it, sorted; without hidden folders, build folders and out/.
[[nodiscard]] std::vector<std::filesystem::path> source_files();
/// Those whose name ends in one of the endings.
[[nodiscard]] std::vector<std::filesystem::path> source_files_ending(const std::vector<std::string>& endings);
[[nodiscard]] std::string content(const std::filesystem::path& relative);

struct Output {
  int exit_code = -1;
  std::string text;  // stdout and stderr together
};
/// Runs a shell command in the source folder.
[[nodiscard]] Output run_shell(const std::string& command);
[[nodiscard]] bool has_program(const std::string& name);

}  // namespace moecast::testing_tree
