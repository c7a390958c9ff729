#include "sim/reproduce.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_document.h"
#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_json.h"
#include "sim/parallel.h"
#include "sim/scenario.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// One campaign that expects something.
struct CampaignRun {
  fs::path file;
  CampaignFile campaign;
  std::vector<JudgedExpectation> judged;
  std::optional<Error> error;
};

/// One scenario that is needed: by its own expectations, or because others compare with it.
struct Run {
  fs::path file;
  std::optional<Scenario> scenario;
  std::array<StepMetrics, kScopeCount> metrics;  // by Scope
  std::vector<OperatorMetrics> operators = {};
  std::optional<Error> error;
};

/// One checkpoint plan that expects something.
struct PlanRun {
  fs::path file;
  std::string name;
  PlanResult result;
};

/// Errors of several files as one.
class Errors {
 public:
  void add(const Error& error) {
    ++count_;
    if (!first_) first_ = error;
    problems_.insert(problems_.end(), error.problems.begin(), error.problems.end());
    if (error.problems.empty()) problems_.push_back({error.place, 0, 0, "", "", error.message, "", ""});
  }
  [[nodiscard]] Status status() const {
    if (count_ == 0) return {};
    if (count_ == 1) return *first_;
    return Error{first_->kind, "", fmt::format("{} scenarios cannot be run", count_), problems_};
  }

 private:
  std::int64_t count_ = 0;
  std::optional<Error> first_;
  std::vector<Problem> problems_;
};

Error with_place(Error error, const fs::path& file) {
  if (error.problems.empty() && error.place.find(file.string()) == std::string::npos) {
    error.place = error.place.empty() ? file.string() : fmt::format("{}: {}", file.string(), error.place);
  }
  return error;
}

Result<std::vector<fs::path>> json_files(const fs::path& folder) {
  std::error_code error;
  if (fs::is_regular_file(folder, error)) return std::vector<fs::path>{folder};
  std::vector<fs::path> files;
  fs::recursive_directory_iterator entries(folder, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    if (entries->path().extension() == ".json" && entries->is_regular_file()) files.push_back(entries->path());
  }
  if (error) return Error{ErrorKind::BadInput, folder.string(), error.message()};
  std::sort(files.begin(), files.end());
  return files;
}

/// The scenarios that runs need: those that expect something, then those that they compare with.
class Runs {
 public:
  Status read(const fs::path& folder) {
    const Result<std::vector<fs::path>> files = json_files(folder);
    RETURN_IF_ERROR(files);
    for (const fs::path& file : *files) read_if_it_expects(file);
    expecting_count_ = runs_.size();
    for (std::size_t i = 0; i < expecting_count_; ++i) {
      const std::vector<Expectation> expectations = runs_[i].scenario->expect;
      for (const Expectation& expectation : expectations) {
        if (expectation.relative_to) read_other(*expectation.relative_to);
        for (const Beside& other : expectation.beside) read_other(other.scenario);
      }
    }
    RETURN_IF_ERROR(errors_.status());
    if (!runs_.empty() || !campaigns_.empty() || !plans_.empty()) return {};
    return Error{ErrorKind::BadInput, folder.string(), "found no scenario with an \"expect\" block"};
  }

  Status simulate_all(std::int64_t thread_count) {
    for_each_in_parallel(runs_.size() + campaigns_.size(), static_cast<unsigned>(thread_count), [&](std::size_t i) {
      i < runs_.size() ? simulate_one(runs_[i]) : simulate_one(campaigns_[i - runs_.size()]);
    });
    for (const Run& run : runs_) {
      if (run.error) errors_.add(*run.error);
    }
    for (const CampaignRun& run : campaigns_) {
      if (run.error) errors_.add(*run.error);
    }
    return errors_.status();
  }

  /// By file, then in the file's order.
  [[nodiscard]] std::vector<ReproducedValue> values(const fs::path& folder) const {
    std::vector<ReproducedValue> result;
    const auto add = [&](const fs::path& file, const std::string& name, auto expectation, double published, double ours,
                         Judgement judgement) {
      result.push_back(
          {shown(file, folder), name, std::move(expectation), published, ours, deviation(published, ours), judgement});
    };
    const auto passed = [](bool pass) { return pass ? Judgement::Pass : Judgement::Fail; };
    for (std::size_t i = 0; i < expecting_count_; ++i) {
      for (const Expectation& each : runs_[i].scenario->expect) {
        const double value = ours(runs_[i], each);
        add(runs_[i].file, runs_[i].scenario->name, each, each.value, value, judgement_of(each, value));
      }
    }
    for (const CampaignRun& run : campaigns_) {
      for (const JudgedExpectation& each : run.judged) {
        add(run.file, run.campaign.scenario.name, each, each.expectation.value, each.ours, passed(each.pass));
      }
    }
    for (const PlanRun& run : plans_) {
      for (const JudgedPlan& each : run.result.judged) {
        add(run.file, run.name, each, each.expectation.value, each.ours, passed(each.pass));
      }
    }
    std::stable_sort(result.begin(), result.end(),
                     [](const ReproducedValue& a, const ReproducedValue& b) { return a.file < b.file; });
    return result;
  }

  [[nodiscard]] std::vector<ReproducedOperators> operators(const fs::path& folder) const {
    std::vector<ReproducedOperators> result;
    for (std::size_t i = 0; i < expecting_count_; ++i) {
      result.push_back({shown(runs_[i].file, folder), runs_[i].scenario->name, runs_[i].operators});
    }
    return result;
  }

 private:
  static std::string shown(const fs::path& file, const fs::path& folder) {
    const fs::path inside = file.lexically_relative(folder);
    return inside == "." ? file.generic_string() : inside.generic_string();
  }
  static std::string key(const fs::path& file) {
    std::error_code error;
    return fs::weakly_canonical(file, error).string();
  }

  void read_if_it_expects(const fs::path& file) {
    const Result<JsonDocument> document = JsonDocument::read(file);
    if (!document.ok()) return errors_.add(with_place(document.error(), file));
    if (!document->json().is_object()) return;
    if (document->json().contains("campaign")) return add_campaign(file, *document);
    if (document->json().contains("checkpoint_plan")) return add_plan(file, *document);
    if (document->json().contains("expect")) add(file, *document);
  }
  void add_plan(const fs::path& file, const JsonDocument& document) {
    const Result<PlanDocument> plan = read_plan_document(document);
    if (!plan.ok()) return errors_.add(with_place(plan.error(), file));
    Result<PlanResult> result = evaluate(*plan);
    if (!result.ok()) return errors_.add(with_place(result.error(), file));
    if (!result->judged.empty()) plans_.push_back({file, plan->name, std::move(result).value()});
  }
  void add_campaign(const fs::path& file, const JsonDocument& document) {
    Result<CampaignFile> campaign = read_campaign(document);
    if (!campaign.ok()) return errors_.add(with_place(campaign.error(), file));
    if (!campaign->expect.empty()) campaigns_.push_back({file, std::move(campaign).value(), {}, {}});
  }
  void read_other(const fs::path& file) {
    if (index_.contains(key(file))) return;
    const Result<JsonDocument> document = JsonDocument::read(file);
    if (!document.ok()) return errors_.add(with_place(document.error(), file));
    add(file, *document);
  }
  void add(const fs::path& file, const JsonDocument& document) {
    Result<Scenario> scenario = read_scenario(document);
    if (!scenario.ok()) return errors_.add(with_place(scenario.error(), file));
    index_[key(file)] = runs_.size();
    runs_.push_back({file, std::move(scenario).value(), {}, {}, {}});
  }

  static void simulate_one(Run& run) {
    const Result<Timeline> timeline = simulate(*run.scenario);
    if (!timeline.ok()) {
      run.error = with_place(timeline.error(), run.file);
      return;
    }
    for (std::size_t i = 0; i < run.metrics.size(); ++i) run.metrics[i] = metrics_of(*timeline, static_cast<Scope>(i));
    run.operators = operator_metrics(*timeline);
  }

  static void simulate_one(CampaignRun& run) {
    const CampaignFile& campaign = run.campaign;
    const Result<ComparedOutcomes> others = run_compared(campaign, 1);
    if (!others.ok()) {
      run.error = with_place(others.error(), run.file);
      return;
    }
    run.judged = moecast::judge(campaign.scenario, campaign.expect, run_replicas(campaign.scenario, 1), *others);
  }

  [[nodiscard]] double ours(const Run& run, const Expectation& expectation) const {
    const auto metrics = [](const Run& of, Scope scope) { return of.metrics.at(static_cast<std::size_t>(scope)); };
    if (!expectation.relative_to) return value_of(expectation.metric, metrics(run, expectation.scope));
    const auto time = [&](const Run& of, std::int64_t times, Scope scope) {
      return static_cast<double>(times) * seconds(metrics(of, scope).step_time);
    };
    double beside = 0;
    for (const Beside& other : expectation.beside) {
      beside += time(runs_[index_.at(key(other.scenario))], other.times, other.scope);
    }
    const Run& other = runs_[index_.at(key(*expectation.relative_to))];
    const double others = beside + time(other, expectation.times, expectation.scope);
    const double own = beside + time(run, expectation.times, expectation.scope);
    return others == 0 ? 0 : others / own;
  }
  static double deviation(double published, double ours) {
    if (ours == published) return 0;
    return published == 0 ? std::numeric_limits<double>::infinity() : (ours - published) / published;
  }

  std::vector<Run> runs_;
  std::vector<CampaignRun> campaigns_;
  std::vector<PlanRun> plans_;
  std::size_t expecting_count_ = 0;
  std::map<std::string, std::size_t> index_;
  Errors errors_;
};

const EnumNames<Judgement> kJudgements = {
    {"pass", Judgement::Pass}, {"known", Judgement::Known}, {"FAIL", Judgement::Fail}};

/// Metric, published value, ours and what is allowed, for the table.
struct ShownValue {
  std::string metric, published, ours, allowed;
};

ShownValue shown(const ReproducedValue& value) {
  if (const auto* step = std::get_if<Expectation>(&value.expectation)) {
    return {name_of(step->metric, step->scope), pretty(step->metric, value.published), pretty(step->metric, value.ours),
            step->tolerance};
  }
  if (const auto* plan = std::get_if<JudgedPlan>(&value.expectation)) {
    const std::string& metric = plan->expectation.metric;
    return {metric, pretty_metric(metric, value.published), pretty_metric(metric, value.ours),
            fmt::format("{:g} %", 100 * plan->expectation.tolerance)};
  }
  const auto& judged = std::get<JudgedExpectation>(value.expectation);
  return {judged.expectation.metric + (judged.expectation.relative_to ? " ratio" : ""),
          fmt::format("{:.4g}", value.published), fmt::format("{:.4g}", value.ours), allowed_text(judged)};
}

using Rows = std::vector<std::vector<std::string>>;

/// Columns two spaces apart, those of `numbers` to the right.
std::string lined_up(const Rows& rows, const std::set<std::size_t>& numbers) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text +=
          numbers.contains(i) ? fmt::format("{:>{}}  ", row[i], widths[i]) : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string percent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:+.1f} %", 100 * fraction) : std::string("-");
}

}  // namespace

std::size_t Reproduction::count(Judgement judgement) const {
  return static_cast<std::size_t>(std::count_if(
      values.begin(), values.end(), [&](const ReproducedValue& value) { return value.judgement == judgement; }));
}

Result<Reproduction> reproduce(const fs::path& folder, std::int64_t thread_count) {
  Runs runs;
  RETURN_IF_ERROR(runs.read(folder));
  RETURN_IF_ERROR(runs.simulate_all(thread_count));
  return Reproduction{runs.values(folder), runs.operators(folder)};
}

std::string to_table(const Reproduction& reproduction) {
  Rows rows = {{"scenario", "metric", "published", "ours", "deviation", "tolerance", ""}};
  std::string notes;
  for (const ReproducedValue& value : reproduction.values) {
    const ShownValue text = shown(value);
    rows.push_back({value.name, text.metric, text.published, text.ours, percent(value.deviation), text.allowed,
                    std::string(name_of(kJudgements, value.judgement))});
    if (value.judgement != Judgement::Known) continue;
    notes += fmt::format("\n{}, {}: {}\n", value.name, text.metric, std::get<Expectation>(value.expectation).note);
  }
  return lined_up(rows, {2, 3, 4, 5}) + notes;
}

std::string operators_table(const Reproduction& reproduction) {
  Rows rows = {{"scenario", "operator", "phase", "count", "together"}};
  for (const ReproducedOperators& scenario : reproduction.scenarios) {
    for (const OperatorMetrics& each : scenario.operators) {
      rows.push_back({scenario.name, std::string(to_text(each.kind)), std::string(to_text(each.phase)),
                      std::to_string(each.count_per_step), pretty(each.total_per_step)});
    }
  }
  return lined_up(rows, {3, 4});
}

Json to_json(const Reproduction& reproduction) {
  Json json = {{"pass", reproduction.count(Judgement::Fail) == 0}, {"values", Json::array()}};
  for (const ReproducedValue& value : reproduction.values) {
    Json row = {{"file", value.file}, {"name", value.name}};
    row["ours"] = value.ours;
    if (const auto* step = std::get_if<Expectation>(&value.expectation)) {
      row.update(to_json(*step));
      if (is_time(step->metric)) row["ours"] = to_text(Duration(std::llround(value.ours * 1e9)));
    } else if (const auto* plan = std::get_if<JudgedPlan>(&value.expectation)) {
      row.update(to_json(plan->expectation));
    } else {
      const auto& judged = std::get<JudgedExpectation>(value.expectation);
      row.update(to_json(judged.expectation));
      row["replicas_from"] = judged.low;
      row["replicas_to"] = judged.high;
    }
    row["deviation"] = std::isfinite(value.deviation) ? Json(value.deviation) : Json();
    row["pass"] = value.judgement == Judgement::Pass;
    if (value.judgement == Judgement::Known) row["known"] = true;
    json["values"].push_back(std::move(row));
  }
  for (const ReproducedOperators& scenario : reproduction.scenarios) {
    Json operators = Json::array();
    for (const OperatorMetrics& each : scenario.operators) {
      operators.push_back({{"kind", to_text(each.kind)},
                           {"phase", to_text(each.phase)},
                           {"count", each.count_per_step},
                           {"total", to_text(each.total_per_step)}});
    }
    json["scenarios"].push_back({{"file", scenario.file}, {"name", scenario.name}, {"operators", operators}});
  }
  return json;
}

}  // namespace moecast
