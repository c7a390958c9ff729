#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace moecast {

void assertion_failed(std::string_view condition, std::string_view detail, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %.*s%s%.*s\n", file, line, static_cast<int>(condition.size()),
               condition.data(), detail.empty() ? "" : ": ", static_cast<int>(detail.size()), detail.data());
  std::abort();
}

}  // namespace moecast
