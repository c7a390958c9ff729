#include <nlohmann/json.hpp>

#include "runtime/calibration/calibrate.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

struct WorkJson {
  Json operator()(const GemmWork& w) const { return {{"kernel", "gemm"}, {"m", w.m}, {"n", w.n}, {"k", w.k}}; }
  Json operator()(const GroupedGemmWork& w) const {
    return {{"kernel", "grouped_gemm"}, {"groups", w.groups}, {"rows", w.rows}, {"n", w.n}, {"k", w.k}};
  }
  Json operator()(const AttentionWork& w) const {
    return {{"kernel", w.backward ? "attention_backward" : "attention"},
            {"batch", w.batch},
            {"sequence", w.sequence},
            {"heads", w.heads},
            {"kv_heads", w.kv_heads},
            {"head_dim", w.head_dim}};
  }
  Json operator()(const MemoryWork& w) const {
    return {{"kernel", to_text(w.kernel)}, {"rows", w.rows}, {"columns", w.columns}, {"bytes", to_text(w.bytes)}};
  }
};

void add_line(Json json, Duration measured, Duration predicted, bool held_out, std::string& out) {
  json["time"] = to_text(measured);
  json["predicted"] = to_text(predicted);
  json["held_out"] = held_out;
  out += json.dump() + "\n";
}

}  // namespace

std::string to_json_lines(const CalibrationResult& result) {
  std::string out;
  for (const KernelSample& sample : result.kernels) {
    add_line(std::visit(WorkJson{}, sample.work), sample.time, result.profile.device.time(sample.work), sample.held_out,
             out);
  }
  for (const LinkSample& sample : result.links) {
    const Json json = {{"collective", to_text(sample.communication.collective)},
                       {"ranks", sample.ranks},
                       {"buffer", to_text(sample.communication.buffer)}};
    add_line(json, sample.time, result.profile.time(sample.communication, sample.ranks), sample.held_out, out);
  }
  return out;
}

}  // namespace moecast
