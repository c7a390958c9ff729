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
#include "tools/shared_data.h"

namespace moecast {
namespace {

/// Reads the file as what its keys say that it is.
Result<Description> describe_document(const JsonDocument& document, const CommandContext& context) {
  const auto& json = document.json();
  const auto has = [&](const char* key) { return json.is_object() && json.contains(key); };
  const std::int64_t sequence = *context.arguments.integer("sequence");
  if (has("workload") && has("training")) {
    const Result<TrainConfig> config = read_train_config(document);
    if (!config.ok()) return config.error();
    return describe_workload("training configuration", config->name, config->workload);
  }
  if (has("workload") && has("hardware")) {
    const Result<Scenario> scenario = read_scenario(document);
    if (!scenario.ok()) return scenario.error();
    Result<Description> out =
        describe_workload("scenario", scenario->name, scenario->workload, scenario->hardware.device.memory);
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
    context.log.debug("{}: ignored, as they change no shape: {}", document.file(), fmt::join(found->ignored, ", "));
    return describe_model(found->model, sequence);
  }
  if (has("d_model") || has("layers") || has("blocks")) {
    const MoeModel model = read_moe_model(reader);
    RETURN_IF_ERROR(reader.finish());
    return describe_model(model, sequence);
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

/// The file of that name, or the model of the zoo.
std::filesystem::path file_of(const std::string& name) {
  const std::filesystem::path model = shared_folder("models") / "zoo" / (name + ".json");
  std::error_code error;
  if (!std::filesystem::exists(name, error) && std::filesystem::exists(model, error)) return model;
  return name;
}

Result<Description> describe_argument(const CommandContext& context) {
  const std::string& name = context.arguments.positionals().front();
  if (is_built_in(name)) {
    const Result<HardwareProfile> profile = find_profile(name, ".");
    if (!profile.ok()) return profile.error();
    return describe_profile(*profile);
  }
  const Result<JsonDocument> document = JsonDocument::read(file_of(name));
  if (!document.ok()) return document.error();
  return describe_document(*document, context);
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const Result<Description> description = describe_argument(context);
  if (!description.ok()) return description.error();
  context.print(to_text(*description, context.style));
  return context.finish(to_json(*description));
}

}  // namespace

Command describe_command() {
  return {
      {.name = "describe",
       .summary = "what a model, hardware profile, workload, scenario or training configuration amounts to",
       .details = "A model: its blocks, parameters, work of a token, checkpoints. A workload: memory of a rank,\n"
                  "floating-point work and bytes of one step by kind of operator. A hardware profile: its rates and\n"
                  "where they come from. A config.json of Hugging Face is a model; --verbose lists the keys ignored.",
       .positionals = {{.name = "FILE",
                        .help = "a JSON file of any of these kinds, or the name of a built-in profile or of a model in "
                                "models/zoo"}},
       .options = with_result_file({{.name = "sequence",
                                     .kind = ValueKind::Integer,
                                     .value = "TOKENS",
                                     .help = "of a model: length of the sequences in which a token stands",
                                     .fallback = "4096",
                                     .low = 1,
                                     .high = 16'777'216}}),
       .examples = {"moecast describe mixtral_8x7b", "moecast describe experiments/quickstart/simulate/top2.json"}},
      run};
}

}  // namespace moecast
