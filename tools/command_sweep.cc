#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "sim/sweep/sweep.h"
#include "tools/command.h"
#include "tools/machine.h"
#include "tools/processes.h"
#include "tools/progress.h"
#include "tools/revision.h"
#include "tools/sweep_folder.h"
#include "tools/sweep_processes.h"
#include "tools/sweep_text.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

/// The sweep without rows.
Result<SweepResult> load(const CommandContext& context) {
  Result<JsonDocument> document = read_document(context.arguments.positionals().front(), context.arguments);
  if (!document.ok()) return document.error();
  return sweep_of(std::move(document).value());
}

/// Of this process; of several on a machine each takes one unless told otherwise.
unsigned thread_count(const CommandContext& context) {
  const std::int64_t usual = context.launch.by == Launch::By::Nobody ? usable_cores() : 1;
  return static_cast<unsigned>(context.arguments.integer("threads").value_or(usual));
}

/// --show: the resolved scenario of one point on stdout.
Status show(const SweepResult& sweep, std::int64_t id) {
  if (id >= std::ssize(sweep.points)) {
    return Error{ErrorKind::BadInput, "--show",
                 fmt::format("expected a point in 0..{}, found {}", sweep.points.size() - 1, id)};
  }
  const Result<SweepScenario> scenario = point_scenario(sweep.spec, sweep.points[static_cast<std::size_t>(id)], id);
  if (!scenario.ok()) return scenario.error();
  const std::string text = to_json_text(to_json(*scenario));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

/// Mean time of a point, from points all over the grid, for about half a second. The point before each is run first:
/// what the two share, a simulated step say, is computed once and not for every point.
Result<double> seconds_per_point(const SweepResult& sweep, const std::function<bool()>& stop) {
  constexpr std::size_t kMostSamples = 16;
  constexpr double kEnough = 0.5;
  const SteadyClock clock;
  const std::size_t count = std::min(kMostSamples, sweep.points.size());
  const auto run = [&](std::size_t point) -> Status {
    const SweepRequest request{static_cast<std::int64_t>(point), sweep.spec.replicas};
    const Result<SweepRow> row = evaluate_point(sweep.spec, sweep.points, request, 1, stop);
    return row.ok() ? Status() : Status(row.error());
  };
  double total = 0;
  std::size_t done = 0;
  // Of the samples the even ones first, so that a slow sweep is not judged by its beginning alone.
  for (std::size_t i = 0; i < count && seconds(clock.now() - Instant{}) < kEnough; ++i) {
    const std::size_t place = 2 * i < count ? 2 * i : 2 * (i - (count + 1) / 2) + 1;
    const std::size_t point = place * sweep.points.size() / count;
    RETURN_IF_ERROR(run(point == 0 ? 0 : point - 1));
    const Instant begin = clock.now();
    RETURN_IF_ERROR(run(point));
    total += seconds(clock.now() - begin);
    ++done;
  }
  return total / static_cast<double>(done);
}

std::string dry_run_text(const SweepResult& sweep, double estimate, unsigned threads, const Style& style) {
  constexpr std::size_t kShown = 10;
  const SweepSpec& spec = sweep.spec;
  std::string out = style.paint(spec.name, Tone::Strong) + "\n";
  for (std::size_t i = 0; i < std::min(kShown, sweep.points.size()); ++i) {
    out += fmt::format("  {:>8}  {}\n", i, point_text(spec, sweep.points[i]));
  }
  if (sweep.points.size() > kShown) out += fmt::format("  {:>8}  {} more\n", "...", sweep.points.size() - kShown);
  const bool grid = spec.search.kind == SweepSearch::Kind::Grid;
  out += fmt::format("\n{} points{}{}\nabout {} on {} threads{}\n", sweep.points.size(),
                     spec.kind == SweepKind::Campaign ? fmt::format(" of {} replicas", spec.replicas) : std::string(),
                     grid ? "" : ", of which the search takes some", remaining_text(duration_from_seconds(estimate)),
                     threads, grid ? "" : " for all of them");
  return out;
}

Status dry_run(const CommandContext& context, const SweepResult& sweep) {
  const unsigned threads = thread_count(context);
  const Result<double> each = seconds_per_point(sweep, [&] { return context.stop.load(); });
  if (!each.ok()) return each.error();
  const double estimate = *each * static_cast<double>(sweep.points.size()) / threads;
  context.print(dry_run_text(sweep, estimate, threads, context.style));
  Json points = Json::array();
  for (std::size_t i = 0; i < sweep.points.size() && context.json; ++i) {
    Json point = {{"point", i}};
    point.update(axes_json(sweep.spec, sweep.points[i]));
    points.push_back(std::move(point));
  }
  return context.print_json({{"schema", "moecast.sweep.dry_run/1"},
                             {"name", sweep.spec.name},
                             {"point_count", sweep.points.size()},
                             {"replicas", sweep.spec.replicas},
                             {"estimated_seconds", estimate},
                             {"threads", threads},
                             {"points", points}});
}

/// Rows per second since the first call, and the line on the terminal.
class Progress {
 public:
  explicit Progress(const CommandContext& context) : line_("sweep", context.show_progress, clock_, stderr) {}

  void operator()(const SweepProgress& progress) {
    if (!before_) before_ = progress.done;
    done_ = progress.done;
    const std::int64_t now = progress.done - *before_;
    const double time = seconds(clock_.now() - Instant{});
    std::string note = time > 0.2 ? fmt::format("{:.3g} points/s", static_cast<double>(now) / time) : std::string();
    if (*before_ > 0) note += fmt::format("{}{} from before", note.empty() ? "" : "  ", *before_);
    line_.update(now, progress.total - *before_, note);
  }
  [[nodiscard]] std::int64_t done() const { return done_; }
  void clear() { line_.clear(); }

 private:
  SteadyClock clock_;
  ProgressLine line_;
  std::optional<std::int64_t> before_;
  std::int64_t done_ = 0;
};

/// Says how to go on.
Error interrupted(const CommandContext& context, std::int64_t done, std::size_t points) {
  const std::string& sweep = context.arguments.positionals().front();
  const std::optional<std::string> output = context.arguments.text("output");
  return Error{ErrorKind::Interrupted, "sweep",
               output ? fmt::format("interrupted; the journal in {} has {} rows of {} points; the same command "
                                    "(moecast sweep {} -o {}) goes on from there",
                                    *output, done, points, sweep, *output)
                      : std::string("interrupted; with -o DIR a journal would have kept what was done")};
}

struct Output {
  SweepFolder folder;
  SweepJournal journal;
};

Result<std::optional<Output>> open_output(const CommandContext& context, const SweepResult& sweep) {
  const std::optional<std::string> path = context.arguments.text("output");
  if (!path) return std::optional<Output>();
  Result<SweepFolder> folder = SweepFolder::open(*path, context.arguments.flag("force"));
  if (!folder.ok()) return folder.error();
  const std::uint64_t hash = sweep_hash(sweep.spec, sweep.points, version() + revision());
  Result<SweepJournal> journal = SweepJournal::open(folder->journal(), hash, sweep_metrics(sweep.spec.kind).size());
  if (!journal.ok()) return journal.error();
  if (journal->damaged_count() > 0) {
    context.log.warning("{}: {} damaged lines; their points run again", folder->journal().string(),
                        journal->damaged_count());
  }
  return std::optional<Output>(Output{std::move(folder).value(), std::move(journal).value()});
}

Status run_all(const CommandContext& context, SweepResult& sweep, SweepWorkers& workers) {
  RETURN_IF_ERROR(check_points(sweep.spec, sweep.points, thread_count(context)));
  Result<std::optional<Output>> output = open_output(context, sweep);
  if (!output.ok()) return output.error();
  Progress progress(context);
  const SweepHooks hooks{[&](const SweepProgress& at) { progress(at); }, [&] { return context.stop.load(); }};
  SweepJournal* journal = output->has_value() ? &output->value().journal : nullptr;
  Result<SweepRows> rows = run_sweep(sweep.spec, sweep.points, workers, journal, hooks);
  progress.clear();
  if (!rows.ok() && rows.error().kind == ErrorKind::Interrupted) {
    return interrupted(context, progress.done(), sweep.points.size());
  }
  if (!rows.ok()) return rows.error();
  sweep.rows = std::move(rows).value();
  if (output->has_value()) RETURN_IF_ERROR(output->value().folder.finish(sweep));
  context.print(sweep_table(sweep, context.style));
  return context.print_json(summary_json(sweep));
}

/// As one of several processes that a launcher started.
Status run_as_process(const CommandContext& context, SweepResult& sweep) {
  constexpr Duration kPatience = std::chrono::minutes(1);
  const Result<std::unique_ptr<ProcessWorld>> world = meet_others(context, kPatience);
  if (!world.ok()) return world.error();
  std::vector<Rank> all;
  for (int rank = 0; rank < (*world)->size(); ++rank) all.emplace_back(rank);
  const Result<std::unique_ptr<Transport>> made = (*world)->make_transport(all);
  if (!made.ok()) return made.error();
  Transport& transport = **made;
  const unsigned threads = thread_count(context);
  if (transport.rank() > 0) {
    return follow_sweep(transport, sweep.spec, sweep.points, threads, [&] { return context.stop.load(); });
  }
  SweepProcesses workers(transport, sweep.spec, sweep.points, threads);
  return run_all(context, sweep, workers);
}

Status run(const CommandContext& context) {
  const bool asks = context.arguments.integer("show") || context.arguments.flag("dry-run");
  if (asks && context.launch.rank > 0) return {};  // the first rank answers
  Result<SweepResult> sweep = load(context);
  if (!sweep.ok()) return sweep.error();
  if (const std::optional<std::int64_t> id = context.arguments.integer("show")) return show(*sweep, *id);
  if (context.arguments.flag("dry-run")) return dry_run(context, *sweep);
  if (context.launch.by != Launch::By::Nobody) return run_as_process(context, *sweep);
  SweepThreads workers(sweep->spec, sweep->points, thread_count(context));
  return run_all(context, *sweep, workers);
}

}  // namespace

Command sweep_command() {
  return {
      {.name = "sweep",
       .summary = "run a scenario with many values of its fields, and find the best point",
       .details =
           "Writes results.csv, results.jsonl, summary.json, sweep.json and scenario.json (the best point) into DIR. "
           "A\n"
           "sweep that was stopped or killed goes on when the same command runs again. The results do not depend on\n"
           "the number of threads, nor, under mpirun or another launcher, on that of processes. What a sweep file "
           "holds: "
           "sim/sweep/README.md; examples: experiments/sweeps/.",
       .positionals = {{.name = "SWEEP", .help = "a sweep (JSON)"}},
       .options = {output_folder_option(false),
                   force_option(),
                   set_option(),
                   {.name = "threads",
                    .letter = 'j',
                    .kind = ValueKind::Integer,
                    .value = "N",
                    .help = "threads; without it as many as there are cores",
                    .low = 1,
                    .high = 4096},
                   {.name = "dry-run", .help = "print the points and an estimate of the time; run nothing"},
                   {.name = "show",
                    .kind = ValueKind::Integer,
                    .value = "POINT",
                    .help = "print the resolved scenario of a point, for moecast simulate",
                    .low = 0,
                    .high = kMostSweepPoints}},
       .examples = {"moecast sweep experiments/sweeps/interval_policy_mtbf.json -o out/sweep",
                    "moecast sweep experiments/sweeps/interval_policy_mtbf.json --show 17",
                    "mpirun -n 8 moecast sweep experiments/sweeps/interval_policy_mtbf.json -o out/sweep"},
       .several_processes = true},
      run};
}

}  // namespace moecast
