#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace moecast {

enum class ValueKind {
  Flag,
  Text,
  Choice,
  Integer,
  Time,
  Rate,
  Fraction,
  Setting,  // JSON_POINTER=VALUE; may be given more than once
};

/// One option of a command. The same table reads the command line and prints the help.
struct OptionSpec {
  std::string name;  // "ranks", used as --ranks
  char letter = 0;   // 'o' for -o; 0: none
  ValueKind kind = ValueKind::Flag;
  std::string value = {};  // what the help calls the value: "FILE"; empty for flags
  std::string help = {};
  std::string fallback = {};              // the value if the option is not given; empty: none
  std::int64_t low = 0, high = 0;         // Integer
  std::vector<std::string> choices = {};  // Choice
  bool required = false;
};

/// One word (or several) that is not an option.
struct PositionalSpec {
  std::string name;  // "SCENARIO"
  std::string help;
  std::size_t at_least = 1;
  std::size_t at_most = 1;
};

/// Everything that the command line knows about a command, but for what it does.
struct CommandSpec {
  std::string name;
  std::string summary;  // one line
  std::string details = {};
  std::vector<PositionalSpec> positionals = {};  // only the last may have at_least != at_most
  std::vector<OptionSpec> options = {};
  std::vector<std::string> examples = {};
  bool several_processes = false;  // may be started as several
};

/// One value of a JSON document that the command line replaces.
struct Setting {
  std::string pointer, value;
};

/// What the user gave, checked against the table: every value parses, every number is in range.
class Arguments {
 public:
  Arguments(std::map<std::string, std::string> values, std::vector<Setting> settings,
            std::vector<std::string> positionals)
      : values_(std::move(values)), settings_(std::move(settings)), positionals_(std::move(positionals)) {}

  [[nodiscard]] bool flag(const std::string& name) const { return values_.contains(name); }
  /// Given, or its fallback; none if it has neither.
  [[nodiscard]] std::optional<std::string> text(const std::string& name) const;
  [[nodiscard]] std::optional<std::int64_t> integer(const std::string& name) const;
  [[nodiscard]] std::optional<Duration> duration(const std::string& name) const;
  [[nodiscard]] std::optional<BytesPerSecond> bytes_per_second(const std::string& name) const;
  [[nodiscard]] std::optional<double> fraction(const std::string& name) const;
  [[nodiscard]] const std::vector<Setting>& settings() const { return settings_; }  // as given
  [[nodiscard]] const std::vector<std::string>& positionals() const { return positionals_; }

 private:
  std::map<std::string, std::string> values_;
  std::vector<Setting> settings_;
  std::vector<std::string> positionals_;
};

/// The words after the command's name. BadInput with one message, the nearest option or value beside it where there is
/// one. No prefixes are guessed; an option given twice is an error (but for Settings); what follows "--" is never an
/// option.
[[nodiscard]] Result<Arguments> parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words);

/// "10 %", "0.1", "2.5%": a fraction of 0 or more. BadInput otherwise.
[[nodiscard]] Result<double> parse_fraction(std::string_view text);

}  // namespace moecast
