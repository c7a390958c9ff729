#pragma once

#include <string>
#include <vector>

namespace moecast {

/// The whole program but for `main`: words after the program's name in, exit code out (0 done, 1 a check failed, 2 bad
/// input, 3 the run failed, 130 interrupted). Results go to stdout, everything else to stderr.
[[nodiscard]] int run_program(const std::vector<std::string>& words);

}  // namespace moecast
