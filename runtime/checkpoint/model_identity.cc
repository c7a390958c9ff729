#include "runtime/checkpoint/model_identity.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/random.h"
#include "runtime/checkpoint/record.h"
#include "runtime/checkpoint/strict_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

constexpr std::string_view kFormat = "moecast-checkpoint-model";
constexpr std::size_t kShownDifferences = 8;

Shapes shapes_of(const ModelIdentity& model) {
  Shapes shapes;
  for (const ModelTensor& tensor : model.tensors) shapes[tensor.name] = tensor.shape;
  return shapes;
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

}  // namespace

std::string ModelIdentity::fingerprint() const {
  std::string text;
  for (const auto& [tensor, shape] : shapes_of(*this)) text += fmt::format("{} {}\n", tensor, shape_text(shape));
  return fmt::format("{:016x}", stream_of(text));
}

std::string tensor_differences(const ModelIdentity& here, const ModelIdentity& folder) {
  const Shapes ours = shapes_of(here);
  const Shapes theirs = shapes_of(folder);
  std::vector<std::string> out;
  for (const auto& [name, shape] : ours) {
    const auto other = theirs.find(name);
    if (other == theirs.end()) {
      out.push_back(name + " only here");
    } else if (other->second != shape) {
      out.push_back(
          fmt::format("{} is {} here and {} in the folder", name, shape_text(shape), shape_text(other->second)));
    }
  }
  for (const auto& [name, shape] : theirs) {
    if (!ours.contains(name)) out.push_back(name + " only in the folder");
  }
  if (out.size() > kShownDifferences) {
    const std::size_t more = out.size() - kShownDifferences;
    out.resize(kShownDifferences);
    out.push_back(fmt::format("{} more", more));
  }
  return fmt::format("{}", fmt::join(out, "; "));
}

std::string to_text(const ModelIdentity& model) {
  Json tensors = Json::array();
  for (const ModelTensor& tensor : model.tensors) tensors.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
  return frame(kFormat, {{"name", model.name}, {"fingerprint", model.fingerprint()}, {"tensors", tensors}});
}

Result<ModelIdentity> parse_model(const std::string& text, const std::string& place) {
  const Result<Json> json = unframe(kFormat, text, place);
  if (!json.ok()) return json.error();
  return read_values<ModelIdentity>(place, [&]() -> Result<ModelIdentity> {
    ModelIdentity model;
    model.name = json->at("name").get<std::string>();
    for (const Json& tensor : json->at("tensors")) {
      model.tensors.push_back(
          {tensor.at("name").get<std::string>(), tensor.at("shape").get<std::vector<std::int64_t>>()});
    }
    return model;
  });
}

}  // namespace moecast
