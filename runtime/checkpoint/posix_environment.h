#pragma once

#include <memory>

#include "runtime/checkpoint/environment.h"

namespace moecast {

/// The file systems of this machine. Large files are written past the page cache (O_DIRECT, two blocks in turn, so that
/// the caller prepares one while the other is written) where the file system can do so.
[[nodiscard]] std::unique_ptr<Environment> make_posix_environment();

}  // namespace moecast
