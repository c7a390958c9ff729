#pragma once

#include <string_view>

namespace moecast {

/// Prints the failed condition and aborts. Called by ASSERT only.
[[noreturn]] void assertion_failed(std::string_view condition, std::string_view detail, const char* file, int line);

}  // namespace moecast

/// Our own bug: on in every build. `ASSERT(cond)` or `ASSERT(cond, "text with {}", values...)` (fmt syntax).
#define ASSERT(condition, ...)                                                                                  \
  do {                                                                                                          \
    if (!(condition)) [[unlikely]] {                                                                            \
      ::moecast::assertion_failed(#condition, ::moecast::detail::assert_text(__VA_ARGS__), __FILE__, __LINE__); \
    }                                                                                                           \
  } while (false)

#include <string>

#include <fmt/core.h>

namespace moecast::detail {
inline std::string assert_text() { return {}; }
template <typename... Values>
std::string assert_text(fmt::format_string<Values...> text, Values&&... values) {
  return fmt::format(text, std::forward<Values>(values)...);
}
}  // namespace moecast::detail
