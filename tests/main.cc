// The main function of every test program. ctest runs each test in a process of its own, several at once: a folder for
// temporary files of its own keeps them apart.
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::string folder = (std::filesystem::temp_directory_path() / "moecast_test_XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return 3;
  ::setenv("TMPDIR", folder.c_str(), 1);               // std::filesystem, child processes
  ::setenv("TEST_TMPDIR", (folder + "/").c_str(), 1);  // testing::TempDir
  const int code = RUN_ALL_TESTS();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return code;
}
