#include "tests/tidy/tree_testing.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include <fmt/format.h>

#include "base/file.h"

namespace moecast::testing_tree {

namespace fs = std::filesystem;

fs::path source_folder() { return MOECAST_SOURCE_DIR; }

std::vector<fs::path> source_files() {
  std::vector<fs::path> out;
  for (auto it = fs::recursive_directory_iterator(source_folder()); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename().string();
    const bool at_top = it.depth() == 0;
    if (name.front() == '.' || (at_top && it->is_directory() && (name.rfind("build", 0) == 0 || name == "out"))) {
      if (it->is_directory()) it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file()) out.push_back(fs::relative(it->path(), source_folder()));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<fs::path> source_files_ending(const std::vector<std::string>& endings) {
  std::vector<fs::path> out;
  for (const fs::path& path : source_files()) {
    const std::string extension = path.extension().string();
    if (std::find(endings.begin(), endings.end(), extension) != endings.end()) out.push_back(path);
  }
  return out;
}

std::string content(const fs::path& relative) {
  const Result<std::string> text = read_file(source_folder() / relative);
  return text.ok() ? *text : std::string();
}

Output run_shell(const std::string& command) {
  Output out;
  std::FILE* pipe = popen(fmt::format("cd '{}' && {{ {}\n}} 2>&1", source_folder().string(), command).c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 4096> buffer{};
  while (const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe))
    out.text.append(buffer.data(), size);
  const int status = pclose(pipe);
  out.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

bool has_program(const std::string& name) {
  return run_shell(fmt::format("command -v {} >/dev/null", name)).exit_code == 0;
}

}  // namespace moecast::testing_tree
