#include "tools/progress.h"

#include <fmt/format.h>

namespace moecast {
namespace {
constexpr Duration kInterval = std::chrono::milliseconds(100);
}

ProgressLine::ProgressLine(std::string title, bool enabled, const Clock& clock, std::FILE* out)
    : title_(std::move(title)), enabled_(enabled), clock_(clock), out_(out), start_(clock.now()), last_(start_) {}

void ProgressLine::update(std::int64_t done, std::int64_t total, std::string_view note) {
  if (!enabled_ || total <= 0) return;
  const Instant now = clock_.now();
  if (drawn_ && now - last_ < kInterval && done < total) return;
  last_ = now;
  drawn_ = true;
  std::string text = fmt::format("{}  {}/{}  {} %", title_, done, total, 100 * done / total);
  if (!note.empty()) text += fmt::format("  {}", note);
  if (done > 0 && done < total) {
    const double left = seconds(now - start_) / static_cast<double>(done) * static_cast<double>(total - done);
    text += fmt::format("  {} left", remaining_text(duration_from_seconds(left)));
  }
  fmt::print(out_, "\r\033[2K{}", text);
  std::fflush(out_);
}

void ProgressLine::clear() {
  if (!drawn_) return;
  fmt::print(out_, "\r\033[2K");
  std::fflush(out_);
  drawn_ = false;
}

std::string remaining_text(Duration remaining) {
  const std::int64_t whole = (remaining.count() + 500'000'000) / 1'000'000'000;
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace moecast
