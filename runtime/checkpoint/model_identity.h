#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace moecast {

struct ModelTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  friend bool operator==(const ModelTensor&, const ModelTensor&) = default;
};

/// Which model a checkpoint folder belongs to: its parameters, in any order.
struct ModelIdentity {
  std::string name;
  std::vector<ModelTensor> tensors;

  /// 16 hexadecimal digits over names and shapes, whatever their order (FNV-1a, 64 bits). The model's name has no part
  /// in it.
  [[nodiscard]] std::string fingerprint() const;
};

/// "" if both have the same tensors, else which ones differ: "blocks.0.mlp.w1 is [128,512] here and [64,256] in the
/// folder; head.w only here; 7 more".
[[nodiscard]] std::string tensor_differences(const ModelIdentity& here, const ModelIdentity& folder);

/// model.json: two JSON lines, the second with length and checksum of the first.
[[nodiscard]] std::string to_text(const ModelIdentity& model);
/// Errors as those of parse_edit (manifest.h).
[[nodiscard]] Result<ModelIdentity> parse_model(const std::string& text, const std::string& place);

}  // namespace moecast
