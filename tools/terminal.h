#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "base/process_environment.h"

namespace moecast {

enum class Tone { Plain, Strong, Faint, Good, Bad, Warning };

/// Text with or without colour, decided once.
class Style {
 public:
  explicit Style(bool colour) : colour_(colour) {}
  [[nodiscard]] std::string paint(std::string_view text, Tone tone) const;
  [[nodiscard]] bool colour() const { return colour_; }

 private:
  bool colour_;
};

/// `mode` is always, never or auto. With auto: NO_COLOR wins (no-color.org), then CLICOLOR_FORCE or FORCE_COLOR, then a
/// terminal that is not dumb.
[[nodiscard]] bool wants_colour(std::string_view mode, const EnvironmentLookup& environment, bool is_terminal);

[[nodiscard]] bool is_terminal(std::FILE* file);

/// Columns that a text takes on a terminal: UTF-8, combining marks 0, wide East Asian characters 2.
[[nodiscard]] std::size_t display_width(std::string_view text);

}  // namespace moecast
