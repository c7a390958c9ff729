#include "tools/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/program_options/errors.hpp>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>

#include "base/nearest.h"

namespace moecast {
namespace {

namespace po = boost::program_options;

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

po::options_description table_of(const CommandSpec& spec) {
  po::options_description table;
  for (const OptionSpec& option : spec.options) {
    const std::string names = option.letter == 0 ? option.name : fmt::format("{},{}", option.name, option.letter);
    if (option.kind == ValueKind::Flag) {
      table.add_options()(names.c_str(), "");
    } else {
      table.add_options()(names.c_str(), po::value<std::string>(), "");
    }
  }
  return table;
}

Error unknown_option(const CommandSpec& spec, const std::string& given) {
  std::vector<std::string> names;
  for (const OptionSpec& option : spec.options) names.push_back("--" + option.name);
  const std::string near = nearest_name(given, names);
  const std::string hint = near.empty() ? std::string() : fmt::format("; did you mean {}?", near);
  return bad(spec.name, fmt::format("unknown option {}{} (moecast {} --help lists all)", given, hint, spec.name));
}

/// Is the text a value of the option's kind?
Status check_value(const OptionSpec& option, const std::string& text) {
  const std::string place = "--" + option.name;
  switch (option.kind) {
    case ValueKind::Flag:
    case ValueKind::Text:
      if (option.kind == ValueKind::Text && text.empty()) {
        return bad(place, fmt::format("expected {}, found nothing", option.value));
      }
      return {};
    case ValueKind::Choice: {
      if (std::find(option.choices.begin(), option.choices.end(), text) != option.choices.end()) return {};
      const std::string near = nearest_name(text, option.choices);
      return bad(place, fmt::format("expected {}, found \"{}\"{}", fmt::join(option.choices, ", "), text,
                                    near.empty() ? "" : fmt::format("; did you mean {}?", near)));
    }
    case ValueKind::Integer: {
      const std::optional<std::int64_t> value = parse_integer(text);
      if (value && *value >= option.low && *value <= option.high) return {};
      return bad(place, fmt::format("expected an integer in {}..{}, found \"{}\"", option.low, option.high, text));
    }
    case ValueKind::Time: {
      const Result<Duration> value = parse_duration(text);
      return value.ok() ? Status() : Status(bad(place, value.error().message));
    }
    case ValueKind::Rate: {
      const Result<BytesPerSecond> value = parse_bytes_per_second(text);
      return value.ok() ? Status() : Status(bad(place, value.error().message));
    }
    case ValueKind::Fraction: {
      const Result<double> value = parse_fraction(text);
      return value.ok() ? Status() : Status(bad(place, value.error().message));
    }
    case ValueKind::Setting: {
      if (text.starts_with('/') && text.find('=') != std::string::npos) return {};
      return bad(place, fmt::format("expected {}, such as /training/steps=20, found \"{}\"", option.value, text));
    }
  }
  return {};
}

Status check_positionals(const CommandSpec& spec, const std::vector<std::string>& words) {
  std::size_t at_least = 0;
  std::size_t at_most = 0;
  for (const PositionalSpec& positional : spec.positionals) {
    if (words.size() < at_least + positional.at_least) {
      return bad(spec.name, fmt::format("{} is missing: {}", positional.name, positional.help));
    }
    at_least += positional.at_least;
    at_most += positional.at_most;
  }
  if (words.size() > at_most) {
    return bad(spec.name, fmt::format("unexpected argument \"{}\" (moecast {} --help)", words[at_most], spec.name));
  }
  return {};
}

/// Fills all three from what Boost found.
Status collect(const CommandSpec& spec, const po::parsed_options& parsed, std::map<std::string, std::string>& values,
               std::vector<Setting>& settings, std::vector<std::string>& positionals) {
  for (const po::option& found : parsed.options) {
    if (found.string_key.empty()) {
      positionals.insert(positionals.end(), found.value.begin(), found.value.end());
      continue;
    }
    const auto option = std::find_if(spec.options.begin(), spec.options.end(),
                                     [&](const OptionSpec& each) { return each.name == found.string_key; });
    ASSERT(option != spec.options.end(), "{}", found.string_key);
    if (values.contains(option->name)) return bad(spec.name, fmt::format("--{} is given twice", option->name));
    const std::string text = found.value.empty() ? std::string() : found.value.front();
    RETURN_IF_ERROR(check_value(*option, text));
    if (option->kind == ValueKind::Setting) {
      settings.push_back({text.substr(0, text.find('=')), text.substr(text.find('=') + 1)});
    } else {
      values[option->name] = text;
    }
  }
  return {};
}

}  // namespace

Result<double> parse_fraction(std::string_view text) {
  const std::string_view original = text;
  double scale = 1;
  if (!text.empty() && text.back() == '%') {
    scale = 0.01;
    text.remove_suffix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  }
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || !std::isfinite(value) || value < 0) {
    return bad("", fmt::format("expected a fraction of 0 or more, such as \"10 %\" or 0.1, found \"{}\"", original));
  }
  return value * scale;
}

Result<Arguments> parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words) {
  // Boost gives what follows "--" back as positionals, but a second parse would not; split here, once.
  const auto separator = std::find(words.begin(), words.end(), "--");
  const std::vector<std::string> options(words.begin(), separator);
  std::map<std::string, std::string> values;
  std::vector<Setting> settings;
  std::vector<std::string> positionals;
  try {
    const po::options_description table = table_of(spec);
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    const po::parsed_options parsed = po::command_line_parser(options).options(table).style(style).run();
    RETURN_IF_ERROR(collect(spec, parsed, values, settings, positionals));
  } catch (const po::unknown_option& error) {
    return unknown_option(spec, error.get_option_name());
  } catch (const po::invalid_command_line_syntax& error) {
    const bool has_value = error.kind() == po::invalid_syntax::extra_parameter;
    return bad(spec.name, has_value ? fmt::format("{} takes no value", error.get_option_name())
                                    : fmt::format("{} needs a value", error.get_option_name()));
  } catch (const po::error& error) {
    return bad(spec.name, error.what());
  }
  if (separator != words.end()) positionals.insert(positionals.end(), separator + 1, words.end());
  if (!values.contains("help")) RETURN_IF_ERROR(check_positionals(spec, positionals));
  for (const OptionSpec& option : spec.options) {
    if (option.required && !values.contains(option.name) && !values.contains("help")) {
      return bad(spec.name, fmt::format("--{} {} is missing: {}", option.name, option.value, option.help));
    }
    if (!option.fallback.empty()) values.try_emplace(option.name, option.fallback);
  }
  return Arguments(std::move(values), std::move(settings), std::move(positionals));
}

std::optional<std::string> Arguments::text(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::int64_t> Arguments::integer(const std::string& name) const {
  const std::optional<std::string> value = text(name);
  return value ? parse_integer(*value) : std::nullopt;
}

std::optional<Duration> Arguments::duration(const std::string& name) const {
  const std::optional<std::string> value = text(name);
  return value ? std::optional(parse_duration(*value).value()) : std::nullopt;
}

std::optional<BytesPerSecond> Arguments::bytes_per_second(const std::string& name) const {
  const std::optional<std::string> value = text(name);
  return value ? std::optional(parse_bytes_per_second(*value).value()) : std::nullopt;
}

std::optional<double> Arguments::fraction(const std::string& name) const {
  const std::optional<std::string> value = text(name);
  return value ? std::optional(parse_fraction(*value).value()) : std::nullopt;
}

}  // namespace moecast
