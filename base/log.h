#pragma once

#include <cstdio>
#include <mutex>
#include <string_view>

#include <fmt/format.h>

namespace moecast {

enum class LogLevel { Error, Warning, Info, Debug };

/// Lines for people on stderr. Passed to whoever writes, never global; any thread may write, lines stay whole. Results
/// do not go here: they are return values and files.
class Log {
 public:
  /// Writes lines up to `level`; `out` outlives the log.
  explicit Log(LogLevel level, std::FILE* out = stderr) : level_(level), out_(out) {}

  [[nodiscard]] bool writes(LogLevel level) const { return level <= level_; }

  template <typename... Values>
  void error(fmt::format_string<Values...> text, Values&&... values) {
    if (writes(LogLevel::Error)) line(LogLevel::Error, fmt::format(text, std::forward<Values>(values)...));
  }
  template <typename... Values>
  void warning(fmt::format_string<Values...> text, Values&&... values) {
    if (writes(LogLevel::Warning)) line(LogLevel::Warning, fmt::format(text, std::forward<Values>(values)...));
  }
  template <typename... Values>
  void info(fmt::format_string<Values...> text, Values&&... values) {
    if (writes(LogLevel::Info)) line(LogLevel::Info, fmt::format(text, std::forward<Values>(values)...));
  }
  template <typename... Values>
  void debug(fmt::format_string<Values...> text, Values&&... values) {
    if (writes(LogLevel::Debug)) line(LogLevel::Debug, fmt::format(text, std::forward<Values>(values)...));
  }

 private:
  void line(LogLevel level, std::string_view text);

  LogLevel level_;
  std::FILE* out_;
  std::mutex mutex_;
};

}  // namespace moecast
