#pragma once

#include <string>

namespace moecast {

/// "0.1.0".
[[nodiscard]] std::string version();
/// The commit that this program was built from, with "+changes" if the tree had others; "unknown" outside of git. Every
/// result file repeats it.
[[nodiscard]] std::string revision();

}  // namespace moecast
