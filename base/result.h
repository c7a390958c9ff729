#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/assert.h"

namespace moecast {

/// What went wrong, by what the user can do about it. `exit_code` maps it to the documented exit codes.
enum class ErrorKind {
  BadInput,     // a file, option or value of the user's: exit 2
  Unavailable,  // this computer lacks something (no GPU for --backend cuda): exit 2
  RunFailed,    // the run itself failed (a rank died, disk full, timeout): exit 3
  CheckFailed,  // it ran, and the answer is no (validate, reproduce): exit 1
  Interrupted,  // Ctrl-C after a clean stop: exit 130
};

/// One problem in an input file. `line` and `column` start at 1; 0 means unknown (say, a value from --set).
struct Problem {
  std::string file;
  int line = 0;
  int column = 0;
  std::string pointer;  // JSON pointer, "" for the whole document
  std::string code;     // "unknown-key", "missing-key", "wrong-type", "out-of-range", "bad-unit", "syntax", ...
  std::string expected;
  std::string found;
  std::string suggestion;  // nearest valid key or value, "" if none

  /// "scenario.json:12:17: /cluster/nodes: expected an integer in 1..1000000, found 0 (did you mean ...?)"
  [[nodiscard]] std::string text() const;
};

struct Error {
  ErrorKind kind = ErrorKind::RunFailed;
  std::string place;                   // file, JSON pointer, rank, operator; may be empty
  std::string message;                 // what was found and what was expected
  std::vector<Problem> problems = {};  // every problem of an input file; may be empty

  /// "place: message", then one line for each problem.
  [[nodiscard]] std::string text() const;
};

[[nodiscard]] int exit_code(ErrorKind kind);

/// A value or an Error. Never empty.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  [[nodiscard]] T& value() & {
    check();
    return std::get<0>(state_);
  }
  [[nodiscard]] const T& value() const& {
    check();
    return std::get<0>(state_);
  }
  [[nodiscard]] T&& value() && {
    check();
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const {
    ASSERT(!ok(), "Result holds a value");
    return std::get<1>(state_);
  }

 private:
  void check() const { ASSERT(ok(), "{}", ok() ? std::string() : std::get<1>(state_).text()); }
  std::variant<T, Error> state_;
};

/// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Error& error() const {
    ASSERT(error_.has_value(), "Status is ok");
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace moecast

/// Returns the error of a Status or Result expression from the enclosing function.
#define RETURN_IF_ERROR(expression)                                       \
  do {                                                                    \
    if (const auto& status_ = (expression); !status_.ok()) [[unlikely]] { \
      return status_.error();                                             \
    }                                                                     \
  } while (false)
