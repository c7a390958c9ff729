#include <zlib.h>

#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tools/chakra.h"
#include "tools/command.h"
#include "tools/output.h"
#include "tools/run_result.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

/// gzip without a time in it: the same text gives the same bytes.
Result<std::string> compressed(std::string_view text) {
  z_stream stream{};
  constexpr int kGzip = 15 + 16;  // largest window, gzip's header
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzip, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
    return Error{ErrorKind::RunFailed, "gzip", "zlib cannot start"};
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END) return Error{ErrorKind::RunFailed, "gzip", "zlib cannot compress this"};
  return out;
}

struct File {
  std::string path;
  std::string content;
};

Result<std::vector<File>> perfetto_file(const RunResult& run, const std::string& path) {
  std::string text = to_chrome_trace(run.recorded.timeline, run.recorded.info);
  if (!path.ends_with(".gz")) return std::vector<File>{{path, std::move(text)}};
  Result<std::string> packed = compressed(text);
  if (!packed.ok()) return packed.error();
  return std::vector<File>{{path, std::move(packed).value()}};
}

std::vector<File> chakra_files(const RunResult& run, const std::string& prefix) {
  ChakraTraces traces = chakra_traces(run.recorded);
  std::vector<File> files;
  for (std::size_t rank = 0; rank < traces.ranks.size(); ++rank) {
    files.push_back({fmt::format("{}.{}.et", prefix, rank), std::move(traces.ranks[rank])});
  }
  files.push_back({prefix + ".comm_group.json", std::move(traces.groups)});
  return files;
}

Status run(const CommandContext& context) {
  const Arguments& arguments = context.arguments;
  const bool perfetto = arguments.flag("perfetto"), chakra = arguments.flag("chakra");
  if (perfetto == chakra) {
    return Error{ErrorKind::BadInput, "export",
                 fmt::format("expected one of --perfetto and --chakra, found {}", perfetto ? "both" : "neither")};
  }
  const std::string output = *arguments.text("output");
  const Result<RunResult> recorded = load_run(arguments.positionals().front());
  if (!recorded.ok()) return recorded.error();
  const Result<std::vector<File>> files =
      perfetto ? perfetto_file(*recorded, output) : Result(chakra_files(*recorded, output));
  if (!files.ok()) return files.error();
  for (const File& file : *files) RETURN_IF_ERROR(check_output_file(file.path, arguments.flag("force")));
  Json names = Json::array();
  for (const File& file : *files) {
    RETURN_IF_ERROR(write_file_atomically(file.path, file.content));
    names.push_back(file.path);
  }
  context.print(files->size() == 1 ? fmt::format("{}\n", output)
                                   : fmt::format("{} .. {}\n", files->front().path, files->back().path));
  return context.print_json({{"schema", "moecast.export/1"}, {"files", names}});
}

}  // namespace

Command export_command() {
  return {{.name = "export",
           .summary = "a run's timeline for other programs: Perfetto, or ASTRA-sim through Chakra traces",
           .details =
               "--perfetto writes one Chrome trace, compressed if the name ends in .gz. --chakra writes a trace for\n"
               "each rank, OUTPUT.0.et, OUTPUT.1.et ..., and OUTPUT.comm_group.json; ASTRA-sim takes them as\n"
               "--workload-configuration=OUTPUT --comm-group-configuration=OUTPUT.comm_group.json.",
           .positionals = {{.name = "RUN", .help = "a result folder of train or simulate, or its timeline.json"}},
           .options = {{.name = "perfetto", .help = "a Chrome trace, which ui.perfetto.dev opens"},
                       {.name = "chakra", .help = "Chakra execution traces (MLCommons)"},
                       {.name = "output",
                        .letter = 'o',
                        .kind = ValueKind::Text,
                        .value = "OUTPUT",
                        .help = "the file, or what the files' names begin with",
                        .required = true},
                       force_option()},
           .examples = {"moecast export out/simulate/scmoe --perfetto -o scmoe.json.gz",
                        "moecast export out/simulate/scmoe --chakra -o out/astra/scmoe"}},
          run};
}

}  // namespace moecast
