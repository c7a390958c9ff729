#include "base/result.h"

#include <fmt/format.h>

namespace moecast {

std::string Problem::text() const {
  std::string out = file.empty() ? std::string("input") : file;
  if (line > 0) out += fmt::format(":{}:{}", line, column);
  out += ": ";
  if (!pointer.empty()) out += pointer + ": ";
  out += fmt::format("expected {}", expected);
  if (!found.empty()) out += fmt::format(", found {}", found);
  if (!suggestion.empty()) out += fmt::format(" (did you mean {}?)", suggestion);
  return out;
}

std::string Error::text() const {
  std::string out = place.empty() || message.empty() ? place + message : fmt::format("{}: {}", place, message);
  for (const Problem& problem : problems) {
    if (!out.empty()) out += '\n';
    out += problem.text();
  }
  return out;
}

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::BadInput:
    case ErrorKind::Unavailable:
      return 2;
    case ErrorKind::RunFailed:
      return 3;
    case ErrorKind::CheckFailed:
      return 1;
    case ErrorKind::Interrupted:
      return 130;
  }
  return 3;
}

}  // namespace moecast
