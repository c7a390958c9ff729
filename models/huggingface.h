#pragma once

#include <string>
#include <vector>

#include "base/json_document.h"
#include "base/result.h"
#include "models/moe_model.h"

namespace moecast {

/// Is this the config.json of a Hugging Face model rather than a description of our own?
[[nodiscard]] bool is_huggingface_config(const JsonDocument& document);

struct HuggingFaceModel {
  MoeModel model;                    // dropless; `source` says what was left out (multi-token prediction, towers)
  std::vector<std::string> ignored;  // keys that say nothing about shape or cost
};

/// Reads a config.json as it is. BadInput with every problem: a family that we do not know (the message names those
/// that we do, and the keys that none of them has), a key that looks as if it mattered and has no place in the model, a
/// value that we cannot describe. Nothing is guessed, and the model is checked as one of our own files is.
[[nodiscard]] Result<HuggingFaceModel> read_huggingface_config(const JsonDocument& document);

}  // namespace moecast
