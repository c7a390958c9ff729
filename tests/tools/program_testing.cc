#include "tests/tools/program_testing.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/file.h"

namespace moecast::testing_program {

namespace fs = std::filesystem;

namespace {

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string test_name() {
  const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
  return std::string("moecast_") + info->test_suite_name() + "_" + info->name();
}

std::string content(const fs::path& path) {
  const Result<std::string> text = read_file(path);
  return text.ok() ? *text : std::string();
}

}  // namespace

fs::path source_folder() { return MOECAST_SOURCE_DIR; }

Outcome run_moecast(const std::vector<std::string>& words, const fs::path& folder) {
  std::string command = "\"$MOECAST\"";
  for (const std::string& word : words) command += " " + quoted(word);
  return run_shell(command, folder);
}

Outcome run_shell(const std::string& script, const fs::path& folder) {
  const fs::path logs = fs::path(testing::TempDir()) / (test_name() + "_logs");
  fs::create_directories(logs);
  const std::string command =
      "cd " + quoted(folder.string()) + " && MOECAST=" + quoted(MOECAST_BINARY_DIR "/tools/moecast") + " && { " +
      script + "\n} >" + quoted((logs / "out").string()) + " 2>" + quoted((logs / "err").string()) + " </dev/null";
  const int status = std::system(command.c_str());
  Outcome outcome{WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(logs / "out"), content(logs / "err")};
  fs::remove_all(logs);
  return outcome;
}

TestFolder::TestFolder() : path_(fs::path(testing::TempDir()) / test_name()) {
  fs::remove_all(path_);
  fs::create_directories(path_);
}

TestFolder::~TestFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

fs::path TestFolder::file(const std::string& name, const std::string& text) const {
  fs::path path = path_ / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
  return path;
}

std::vector<std::string> TestFolder::names() const {
  std::vector<std::string> out;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_))
    out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace moecast::testing_program
