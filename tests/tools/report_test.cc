#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

#include "base/file.h"
#include "tests/tools/program_testing.h"
#include "tests/tools/run_testing.h"
#include "tools/report_data.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_program::run_moecast;
using testing_program::TestFolder;
using testing_runs::write_run;

RunResult loaded(const fs::path& path) {
  Result<RunResult> run = load_run(path);
  EXPECT_TRUE(run.ok()) << (run.ok() ? "" : run.error().text());
  return std::move(run).value();
}

ReportContent content(const TestFolder& folder, const std::string& name) {
  write_run(folder.path() / "m", "train", name, Duration(1000));
  write_run(folder.path() / "p", "simulate", name, Duration(1100));
  ReportContent out;
  out.title = "a test";
  out.variants.push_back({name, loaded(folder.path() / "m"), loaded(folder.path() / "p")});
  out.tolerance = 0.2;
  return out;
}

TEST(ReportData, HoldsOneStepOfEveryRankAndTheVerdict) {
  const TestFolder folder;
  const auto data = report_data(content(folder, "small"));
  const auto& variant = data.at("variants").at(0);
  const auto& timeline = variant.at("measured").at("timeline");
  const std::size_t operators = timeline.at("operators").size();
  EXPECT_EQ(timeline.at("op").size(), 2 * operators);  // two ranks, one of three steps
  EXPECT_EQ(timeline.at("start_ns").at(0), 0);
  EXPECT_EQ(timeline.at("duration_ns"), variant.at("measured").at("metrics").at("step_time_ns"));
  EXPECT_NEAR(variant.at("step_time_error").get<double>(), 0.1, 1e-9);
  EXPECT_EQ(variant.at("loss").size(), 4U);
  EXPECT_TRUE(data.at("verdict").at("pass").get<bool>());
  EXPECT_TRUE(data.at("profile").is_null());
}

TEST(ReportData, AMeasuredRunAloneHasNoVerdict) {
  const TestFolder folder;
  ReportContent half = content(folder, "small");
  half.variants.front().predicted.reset();
  const auto data = report_data(half);
  EXPECT_TRUE(data.at("verdict").is_null());
  EXPECT_TRUE(data.at("variants").at(0).at("operators").at(0).at("predicted_ns").is_null());
}

TEST(ReportPage, IsOneFileThatNoTextCanBreakOutOf) {
  const TestFolder folder;
  const std::string page = report_page(report_data(content(folder, "</script><script>alert(1)</script>@@REPORT_JS@@")));
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>"), std::string::npos);
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  for (const char* link : {"src=\"http", "href=\"http", "url(http", "@import", "fetch("}) {
    EXPECT_EQ(page.find(link), std::string::npos) << link;
  }
  EXPECT_EQ(page.find("@@DATA@@"), std::string::npos);
  EXPECT_LT(page.size(), 15'000'000U);
}

/// The page as a browser leaves it, and what it had to complain about; "" without a browser.
struct Rendered {
  std::string dom, console;
};
Rendered rendered(const fs::path& page, const fs::path& folder) {
  const char* names[] = {"chromium", "chromium-browser", "google-chrome", "chrome"};
  for (const char* name : names) {
    if (std::system(fmt::format("command -v {} >/dev/null 2>&1", name).c_str()) != 0) continue;
    const std::string command = fmt::format(
        "{} --headless --no-sandbox --disable-gpu --user-data-dir='{}' --virtual-time-budget=5000 "
        "--window-size=1200,1600 --enable-logging=stderr "
        "--dump-dom 'file://{}' >'{}' 2>'{}'",
        name, (folder / "browser").string(), page.string(), (folder / "dom").string(), (folder / "log").string());
    static_cast<void>(std::system(command.c_str()));
    Rendered out{*read_file(folder / "dom"), ""};
    std::istringstream log(*read_file(folder / "log"));
    for (std::string line; std::getline(log, line);) {
      if (line.find("CONSOLE") != std::string::npos) out.console += line + "\n";
    }
    if (out.dom.empty()) out.dom = "nothing";
    return out;
  }
  return {};
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t out = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++out;
  return out;
}

TEST(ReportPage, IsDrawnByABrowser) {
  const TestFolder folder;
  const ReportContent two_runs = content(folder, "small");
  const fs::path page = folder.path() / "report.html";
  const auto data = report_data(two_runs);
  ASSERT_TRUE(write_file_atomically(page, report_page(data)).ok());
  const auto [dom, console] = rendered(page, folder.path());
  if (dom.empty()) GTEST_SKIP() << "no chromium on this machine";
  EXPECT_EQ(console, "");
  EXPECT_NE(dom.find("data-drawn=\"yes\""), std::string::npos) << "the script stopped half-way";
  EXPECT_NE(dom.find("The predicted step time is 10 % off the measured one."), std::string::npos);
  const std::size_t spans = data.at("variants").at(0).at("measured").at("timeline").at("op").size();
  EXPECT_EQ(count(dom, "class=\"span"), 2 * spans);
  EXPECT_EQ(count(dom, "<canvas"), 1U);  // the losses
  EXPECT_GT(count(dom, "class=\"exposed\""), 0U);
}

/// A sweep of 4 x 3 points whose goodput is highest at point 7 of those that meet the constraint.
SweepResult made_up_sweep(int interval_count = 4, int gpu_count = 3) {
  const std::string text = fmt::format(R"({{"name": "made up </script>", "base": {{"name": "b", "campaign": {{}}}},
    "axes": [{{"pointer": "/campaign/policy/interval", "range": {{"from": 1, "to": {}, "step": 1}}}},
             {{"pointer": "/campaign/cluster/gpus", "range": {{"from": 8, "to": {}, "step": 8}}}}],
    "replicas": 2, "objective": {{"metric": "goodput", "goal": "max"}},
    "constraints": [{{"metric": "plt", "at_most": "3 %"}}]}})",
                                       interval_count, 8 * gpu_count);
  Result<JsonDocument> document = JsonDocument::parse(text, "sweep.json");
  Result<SweepSpec> spec = read_sweep(std::move(document).value());
  Result<std::vector<SweepPoint>> points = sweep_points(*spec);
  SweepResult result{std::move(spec).value(), std::move(points).value(), {}};
  const auto metric = [](const char* name) { return *find_sweep_metric(SweepKind::Campaign, name); };
  for (std::int64_t id = 0; id < std::ssize(result.points); ++id) {
    SweepRow row{{id, 2}, std::vector<double>(sweep_metrics(SweepKind::Campaign).size(), 0.01), {}};
    row.values[metric("goodput")] = 0.9 - 0.0001 * static_cast<double>((id - 9) * (id - 9));
    row.values[metric("plt")] = id > 7 ? 0.05 : 0.001 * static_cast<double>(id);
    row.values[metric("cost")] = 1000 + static_cast<double>(id * 37 % 101);
    result.rows.add(std::move(row));
  }
  return result;
}

TEST(ReportPage, ASweepIsDrawnByABrowserAndItsTableSorts) {
  const TestFolder folder;
  ReportContent sweep;
  sweep.sweep = made_up_sweep();
  const fs::path page = folder.path() / "report.html";
  std::string html = report_page(report_data(sweep));
  EXPECT_EQ(html.find("made up </script>"), std::string::npos);
  // Somebody who clicks on "cost" once and looks at the first row; then at the colours of the four charts.
  const std::string click = R"(<script>
    [...document.querySelectorAll('#sweep-table th button')].find((b) => b.textContent === 'cost').click();
    document.body.dataset.first = document.querySelector('#sweep-table tbody tr td').textContent;
    setTimeout(() => [...document.querySelectorAll('canvas')].forEach((canvas, i) => {
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      const colours = new Set();
      for (let at = 0; at < pixels.length; at += 4) colours.add(pixels.slice(at, at + 3).join());
      document.body.setAttribute(`data-chart-${i}`,
        [['lowest', '68,1,84'], ['highest', '253,231,37'], ['line', '63,111,216'], ['best', css('--good').match(/\w\w/g)
         .map((c) => parseInt(c, 16)).join()]].filter(([, rgb]) => colours.has(rgb)).map(([name]) => name).join());
    }), 1000);</script>)";
  html.insert(html.rfind("</body>"), click);
  ASSERT_TRUE(write_file_atomically(page, html).ok());
  const auto [dom, console] = rendered(page, folder.path());
  if (dom.empty()) GTEST_SKIP() << "no chromium on this machine";
  EXPECT_EQ(console, "");
  EXPECT_NE(dom.find("data-drawn=\"yes\""), std::string::npos) << "the script stopped half-way";
  EXPECT_NE(dom.find("Point 7 (interval 3, gpus 16) has the highest goodput, 89.96 %"), std::string::npos);
  EXPECT_NE(dom.find("The constraint plt at most 3 % binds: without it point 9"), std::string::npos);
  EXPECT_EQ(count(dom, "<canvas"), 4U);  // map, lines, two fronts
  EXPECT_NE(dom.find("data-chart-0=\"lowest,highest\""), std::string::npos);
  EXPECT_NE(dom.find("data-chart-1=\"line\""), std::string::npos);
  for (const char* chart : {"data-chart-2=\"best\"", "data-chart-3=\"best\""}) {
    EXPECT_NE(dom.find(chart), std::string::npos) << chart;
  }
  EXPECT_EQ(count(dom, "class=\"stack\""), 12U);
  EXPECT_NE(dom.find("data-first=\"8\""), std::string::npos) << "8 * 37 % 101 is the most";
  EXPECT_NE(dom.find("aria-sort=\"descending\""), std::string::npos);
}

TEST(ReportPage, ASweepOfTenThousandPointsStaysSmall) {
  ReportContent sweep;
  sweep.sweep = made_up_sweep(100, 100);
  EXPECT_LT(report_page(report_data(sweep)).size(), 15'000'000U);
}

TEST(ReportCommand, PairsRunsByNameAndKeepsWhatIsThere) {
  const TestFolder folder;
  write_run(folder.path() / "train" / "a", "train", "a", Duration(1000));
  write_run(folder.path() / "simulate" / "a", "simulate", "a", Duration(1050));
  const auto first = run_moecast({"report", "train/a", "simulate/a", "--json"}, folder.path());
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(nlohmann::json::parse(first.out).at("variant_count"), 1);
  const auto second = run_moecast({"report", "train/a"}, folder.path());
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_EQ(second.err, "moecast: report.html: exists; --force replaces it\n");
  EXPECT_EQ(run_moecast({"report", "train/a", "--force"}, folder.path()).exit_code, 0);
}

}  // namespace
}  // namespace moecast
