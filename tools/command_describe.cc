#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/json_document.h"
#include "hwprofiles/profile_json.h"
#include "models/huggingface.h"
#include "models/moe_model_json.h"
#include "models/state_inventory.h"
#include "models/workload.h"
#include "runtime/trainer/train_config.h"
#include "sim/scenario.h"
#include "tools/command.h"
#include "tools/description.h"

namespace moecast {
namespace {

/// Reads the file as what its keys say that it is.
Result<Description> describe_document(const JsonDocument& document, Log& log) {
  const auto& json = document.json();
  const auto has = [&](const char* key) { return json.is_object() && json.contains(key); };
  if (has("workload") && has("training")) {
    const Result<TrainConfig> config = read_train_config(document);
    if (!config.ok()) return config.error();
    return describe_workload("training configuration", config->name, config->workload);
  }
  if (has("workload") && has("hardware")) {
    const Result<Scenario> scenario = read_scenario(document);
    if (!scenario.ok()) return scenario.error();
    Result<Description> out = describe_workload("scenario", scenario->name, scenario->workload);
    if (out.ok()) append(*out, describe_profile(scenario->hardware));
    return out;
  }
  JsonReader reader(document);
  if (has("workload")) {
    const Workload workload = read_workload(reader);
    RETURN_IF_ERROR(reader.finish());
    return describe_workload("workload", workload.model.name, workload);
  }
  if (has("device") || has("node")) {
    const HardwareProfile profile = read_profile(reader);
    RETURN_IF_ERROR(reader.finish());
    return describe_profile(profile);
  }
  if (is_huggingface_config(document)) {
    const Result<HuggingFaceModel> found = read_huggingface_config(document);
    if (!found.ok()) return found.error();
    log.debug("{}: ignored, as they change no shape: {}", document.file(), fmt::join(found->ignored, ", "));
    return describe_model(found->model);
  }
  if (has("d_model") || has("layers") || has("blocks")) {
    const MoeModel model = read_moe_model(reader);
    RETURN_IF_ERROR(reader.finish());
    return describe_model(model);
  }
  return Error{ErrorKind::BadInput, document.file(),
               "expected a model (\"d_model\", or \"model_type\" of a Hugging Face config.json), a hardware profile "
               "(\"device\"), a workload or a scenario (\"workload\"), "
               "found none of these keys"};
}

bool is_built_in(const std::string& name) {
  for (const std::string& each : built_in_profiles()) {
    if (each == name) return true;
  }
  return false;
}

Result<Description> describe_argument(const std::string& name, Log& log) {
  if (is_built_in(name)) {
    const Result<HardwareProfile> profile = find_profile(name, ".");
    if (!profile.ok()) return profile.error();
    return describe_profile(*profile);
  }
  const Result<JsonDocument> document = JsonDocument::read(name);
  if (!document.ok()) return document.error();
  return describe_document(*document, log);
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const Result<Description> description = describe_argument(context.arguments.positionals().front(), context.log);
  if (!description.ok()) return description.error();
  context.print(to_text(*description, context.style));
  return context.finish(to_json(*description));
}

}  // namespace

Command describe_command() {
  return {
      {.name = "describe",
       .summary = "what a model, hardware profile, workload, scenario or training configuration amounts to",
       .details = "A model: its blocks and parameters. A workload: memory of a rank, floating-point work and bytes of\n"
                  "one step by kind of operator. A hardware profile: its rates and where they come from.",
       .positionals = {{.name = "FILE",
                        .help = "a JSON file of any of these kinds, or the name of a built-in profile"}},
       .options = with_result_file({}),
       .examples = {"moecast describe models/zoo/mixtral_8x7b.json",
                    "moecast describe experiments/quickstart/simulate/top2.json"}},
      run};
}

}  // namespace moecast
