#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "hwprofiles/profile.h"
#include "models/workload.h"
#include "tools/terminal.h"

namespace moecast {

/// What `moecast describe` says, for people and for programs.
struct Description {
  struct Fact {
    std::string name;  // "parameters"
    std::string key;   // "parameter_count": the name in JSON, with its unit
    std::string text;  // "1.31 G"
    double value = 0;  // in JSON, unless `text` is all there is
    bool is_number = true;
  };
  struct OperatorRow {  // one kind and phase, sums over one step of one rank
    OpKind kind = OpKind::Embed;
    Phase phase = Phase::Forward;
    std::int64_t count = 0;
    Flops work{0};
    Bytes memory{0};         // read and written by compute kernels
    Bytes communication{0};  // buffers of collectives
  };
  std::string kind;  // "model", "scenario", ...
  std::string name;
  std::vector<Fact> facts = {};
  std::vector<OperatorRow> operators = {};
  std::string note = {};  // free text, as it is
};

/// Work and cache of a token are those in sequences of `sequence` tokens, or of the longest that the model takes.
[[nodiscard]] Description describe_model(const MoeModel& model, std::int64_t sequence);
/// BadInput when the workload gives no plan. With the memory of a device (0: not known) also whether a rank fits.
[[nodiscard]] Result<Description> describe_workload(std::string_view kind, std::string_view name,
                                                    const Workload& workload, Bytes device_memory = Bytes(0));
[[nodiscard]] Description describe_profile(const HardwareProfile& profile);
/// Adds what `more` says below what `description` says.
void append(Description& description, const Description& more);

[[nodiscard]] std::string to_text(const Description& description, const Style& style);
[[nodiscard]] nlohmann::ordered_json to_json(const Description& description);

}  // namespace moecast
