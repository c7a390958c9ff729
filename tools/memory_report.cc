#include "tools/memory_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostOptions = 4;

Json components(const StageMemory& memory) {
  if (memory.cache.count() > 0) {
    return {{"weights", memory.weights.count()},
            {"cache", memory.cache.count()},
            {"buffers", memory.buffers.count()},
            {"total", memory.total().count()}};
  }
  return {{"weights", memory.weights.count()},
          {"gradients", memory.gradients.count()},
          {"master", memory.master.count()},
          {"moments", memory.moments.count()},
          {"activations", memory.activations.count()},
          {"buffers", memory.buffers.count()},
          {"total", memory.total().count()}};
}

}  // namespace

MemoryReport report_memory(const Workload& workload, Bytes device) {
  MemoryReport report{largest_memory(request_of(workload)), device, true, {}};
  if (device.count() == 0 || report.largest.total() <= device) return report;
  report.fits = false;
  report.options = fitting_changes(workload, device, kMostOptions);
  return report;
}

std::string to_text(const MemoryReport& report) {
  const StageMemory& memory = report.largest;
  std::string text = pretty(memory.total());
  if (report.device.count() > 0) text += fmt::format(" of {}", pretty(report.device));
  if (memory.cache.count() > 0) {
    text += fmt::format(": weights {}, cache {}, buffers {}", pretty(memory.weights), pretty(memory.cache),
                        pretty(memory.buffers));
  } else {
    text += fmt::format(": weights {}, gradients {}, optimizer {}, activations {}, buffers {}", pretty(memory.weights),
                        pretty(memory.gradients), pretty(memory.master + memory.moments), pretty(memory.activations),
                        pretty(memory.buffers));
  }
  if (report.fits) return text;
  text += "; it does not fit";
  if (report.options.empty()) return text + ", nor does any layout of as many ranks that was tried";
  std::string options;
  for (const MemoryOption& option : report.options) {
    options += fmt::format("{}{} ({})", options.empty() ? "" : "; or ", option.change, pretty(option.memory.total()));
  }
  return text + ", but would with " + options;
}

Json to_json(const MemoryReport& report) {
  Json json = components(report.largest);
  if (report.device.count() == 0) return json;
  json["device"] = report.device.count();
  json["fits"] = report.fits;
  if (report.fits) return json;
  json["would_fit"] = Json::array();
  for (const MemoryOption& option : report.options) {
    json["would_fit"].push_back({{"change", option.change}, {"total", option.memory.total().count()}});
  }
  return json;
}

}  // namespace moecast
