#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace moecast {

/// One line on a terminal that says how far a long job is: "train  12/40  30 %  loss 2.31  4 s left". At most ten times
/// a second; gone when the object is. Writes nothing if not enabled. Used by one thread.
class ProgressLine {
 public:
  /// `clock` and `out` outlive it. Enable it only if `out` is a terminal.
  ProgressLine(std::string title, bool enabled, const Clock& clock, std::FILE* out);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { clear(); }

  void update(std::int64_t done, std::int64_t total, std::string_view note = "");
  void clear();

 private:
  std::string title_;
  bool enabled_;
  const Clock& clock_;
  std::FILE* out_;
  Instant start_;
  Instant last_;
  bool drawn_ = false;
};

/// "4 s", "2 min 5 s", "3 h 20 min": for people who wait.
[[nodiscard]] std::string remaining_text(Duration remaining);

}  // namespace moecast
