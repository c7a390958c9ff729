#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tests/tidy/tree_testing.h"

// Includes point one way: the map of folders in README.md ("Layout"), every #include of the tree held against it.

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_tree::content;
using testing_tree::source_files_ending;

/// Which folders a folder's files may include, besides their own.
const std::map<std::string, std::set<std::string>>& allowed() {
  static const std::map<std::string, std::set<std::string>> map = {
      {"base", {}},
      {"models", {"base"}},
      {"hwprofiles", {"base", "models"}},
      {"sim", {"base", "models", "hwprofiles"}},
      {"runtime", {"base", "models", "hwprofiles"}},
      {"tools", {"base", "models", "hwprofiles", "sim", "runtime"}},
      {"tests", {"base", "models", "hwprofiles", "sim", "runtime", "tools"}},
  };
  return map;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

/// The paths in #include "..." lines.
std::vector<std::string> includes_of(const std::string& text) {
  static const std::regex line("^[ \t]*#[ \t]*include[ \t]*\"([^\"]+)\"");
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string each; std::getline(lines, each);) {
    std::smatch match;
    if (std::regex_search(each, match, line)) out.push_back(match[1]);
  }
  return out;
}

std::string forbidden(const std::string& from, const std::string& to) {
  const auto rule = allowed().find(folder_of(from));
  if (rule == allowed().end()) return "a folder that the map does not know";
  const std::string target = folder_of(to);
  if (target == folder_of(from) || rule->second.contains(target)) return "";
  return "an arrow that the map does not allow";
}

using Graph = std::map<std::string, std::vector<std::string>>;

/// A path from `node` back to a file on it; "" if there is none.
std::string circle_from(const Graph& graph, const std::string& node, std::vector<std::string>& path,
                        std::set<std::string>& done) {
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != node) continue;
    std::string text;
    for (; i < path.size(); ++i) text += path[i] + " -> ";
    return text + node;
  }
  if (!done.insert(node).second) return "";
  path.push_back(node);
  const auto found = graph.find(node);
  if (found != graph.end()) {
    for (const std::string& next : found->second) {
      if (const std::string circle = circle_from(graph, next, path, done); !circle.empty()) return circle;
    }
  }
  path.pop_back();
  return "";
}

Graph include_graph() {
  Graph graph;
  for (const fs::path& path : source_files_ending({".h", ".cc", ".cu", ".cuh"})) {
    graph[path.generic_string()] = includes_of(content(path));
  }
  return graph;
}

TEST(Includes, FollowTheMapOfFolders) {
  for (const auto& [file, includes] : include_graph()) {
    for (const std::string& include : includes) {
      const std::string why = forbidden(file, include);
      EXPECT_TRUE(why.empty()) << file << " includes \"" << include << "\": " << why;
    }
  }
}

TEST(Includes, NameFilesFromTheRepositoryRoot) {
  for (const auto& [file, includes] : include_graph()) {
    for (const std::string& include : includes) {
      EXPECT_TRUE(fs::exists(testing_tree::source_folder() / include)) << file << " includes \"" << include << '"';
    }
  }
}

TEST(Includes, FormNoCircle) {
  const Graph graph = include_graph();
  EXPECT_GT(graph.size(), 50U);
  std::set<std::string> done;
  for (const auto& [file, includes] : graph) {
    std::vector<std::string> path;
    EXPECT_EQ(circle_from(graph, file, path, done), "");
  }
}

TEST(Includes, CheckNoticesWhatItLooksFor) {
  EXPECT_NE(forbidden("sim/a.cc", "runtime/backend.h"), "");
  EXPECT_NE(forbidden("runtime/a.cc", "sim/event_queue.h"), "");
  EXPECT_NE(forbidden("base/a.cc", "models/timeline.h"), "");
  EXPECT_EQ(forbidden("sim/a.cc", "models/timeline.h"), "");
  EXPECT_EQ(includes_of("  # include \"a/b.h\"\n// include \"c.h\"\n"), std::vector<std::string>{"a/b.h"});
  std::vector<std::string> path;
  std::set<std::string> done;
  EXPECT_EQ(circle_from({{"a", {"b"}}, {"b", {"c"}}, {"c", {"a"}}}, "a", path, done), "a -> b -> c -> a");
}

TEST(Includes, KeepHeavyHeadersOutOfOurs) {
  static const std::regex heavy(
      "#[ \t]*include[ \t]*<(nlohmann/json\\.hpp|mpi\\.h|nccl\\.h|Eigen/|boost/program_options)");
  const std::set<std::string> inner = {"base/json_parser.h", "hwprofiles/json_lists.h",
                                       "runtime/checkpoint/record.h",  // read by .cc files only
                                       "runtime/checkpoint/strict_json.h", "runtime/cpu/kernels/blocks.h"};
  for (const fs::path& path : source_files_ending({".h"})) {
    if (folder_of(path.generic_string()) == "tests" || inner.contains(path.generic_string())) continue;
    EXPECT_FALSE(std::regex_search(content(path), heavy)) << path << " makes every reader of it parse a heavy header";
  }
}

}  // namespace
}  // namespace moecast
