#pragma once

#include <filesystem>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "base/result.h"
#include "models/moe_model.h"

namespace moecast {

/// Reads a model description. Every problem goes to the reader: ranges, heads that KV heads do not divide, top_k above
/// the experts, a shortcut without its preceding block, a coefficient gate without a shared expert ... What is returned
/// is to be used only if the reader stays good.
///
/// Blocks are given as a pattern, "layers": {"count", "dense_width", "moe_every", "moe_offset"} with one "moe" (block i
/// has it if i % moe_every == moe_offset; without "moe" all are dense; moe_offset defaults to moe_every - 1), or as
/// runs, "blocks": [{"repeat": 3, "dense_width": 18432}, {"repeat": 58, "moe": {...}}]; a run may be a sequence:
/// {"repeat": 6, "blocks": [{"dense_width": 4096}, {"moe": {...}}]}.
[[nodiscard]] MoeModel read_moe_model(JsonReader& reader);

/// A model file, or the config.json of a Hugging Face model (models/huggingface.h). BadInput with every problem in it.
[[nodiscard]] Result<MoeModel> load_moe_model(const std::filesystem::path& path);

/// Every field, defaults included; left out is only what the model does not have at all (latent attention, a window,
/// zero experts, groups of experts ...). Reads back to the same model.
[[nodiscard]] nlohmann::ordered_json to_json(const MoeModel& model);

}  // namespace moecast
