#include <gtest/gtest.h>

#include <cstdlib>

#include <fmt/format.h>

#include "base/file.h"
#include "tests/tools/program_testing.h"
#include "tools/help.h"
#include "tools/manual.h"

namespace moecast {
namespace {

using testing_program::TestFolder;

TEST(Manual, NamesEveryCommandAndOption) {
  const std::string page = manual_page(commands());
  for (const Command& command : commands()) {
    EXPECT_NE(page.find(".SS moecast " + command.spec.name), std::string::npos) << command.spec.name;
    for (const OptionSpec& option : command.spec.options) {
      std::string name = option.name;
      for (std::size_t at = 0; (at = name.find('-', at)) != std::string::npos; at += 2) name.insert(at, "\\");
      EXPECT_NE(page.find("\\-\\-" + name), std::string::npos) << command.spec.name << " " << option.name;
    }
  }
}

/// What bash completes after these words, of which the last is not finished.
std::string completed(const TestFolder& folder, const std::string& words, int position) {
  const std::string script = fmt::format(
      "source '{}/completion'; COMP_WORDS=({}); COMP_CWORD={}; _moecast; echo \"${{COMPREPLY[*]}}\" > '{}/out'",
      folder.path().string(), words, position, folder.path().string());
  static_cast<void>(folder.file("script", script));
  EXPECT_EQ(std::system(fmt::format("bash '{}/script'", folder.path().string()).c_str()), 0);
  return *read_file(folder.path() / "out");
}

TEST(Completion, BashCompletesCommandsOptionsAndValues) {
  if (std::system("command -v bash >/dev/null 2>&1") != 0) GTEST_SKIP() << "no bash here";
  const TestFolder folder;
  static_cast<void>(folder.file("completion", bash_completion(commands())));
  EXPECT_EQ(completed(folder, "moecast swe", 1), "sweep\n");
  EXPECT_EQ(completed(folder, "moecast sweep --dr", 2), "--dry-run\n");
  EXPECT_EQ(completed(folder, "moecast sweep --color n", 3), "never\n");
  EXPECT_EQ(completed(folder, "moecast sweep fi", 2), "\n");  // a file: bash's own
}

}  // namespace
}  // namespace moecast
