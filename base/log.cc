#include "base/log.h"

#include <string>

namespace moecast {

void Log::line(LogLevel level, std::string_view text) {
  const char* prefix = level == LogLevel::Error ? "error: " : level == LogLevel::Warning ? "warning: " : "";
  std::string whole = fmt::format("{}{}\n", prefix, text);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::fwrite(whole.data(), 1, whole.size(), out_);
  std::fflush(out_);
}

}  // namespace moecast
