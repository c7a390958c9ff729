#include "runtime/trainer/divergence.h"

#include <cmath>
#include <cstring>

#include <fmt/format.h>

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

bool is_finite(DType dtype, const std::byte* value) {
  const auto as = [&]<typename T>(T out) {
    std::memcpy(&out, value, sizeof(T));
    return out;
  };
  switch (dtype) {
    case DType::F32:
      return std::isfinite(as(0.0F));
    case DType::F64:
      return std::isfinite(as(0.0));
    case DType::BF16:  // an exponent of ones
      return (as(std::uint16_t{0}) & 0x7F80) != 0x7F80;
    case DType::I32:
      return true;
  }
  return true;
}

bool all_finite(StepContext& context, const Tensor& tensor) {
  if (tensor.empty() || tensor.element_count() == 0) return true;
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes().count()));
  context.backend.download(kLane, bytes.data(), tensor);
  context.backend.synchronize(kLane);
  const auto size = static_cast<std::size_t>(bytes_per_element(tensor.dtype));
  for (std::size_t i = 0; i < bytes.size(); i += size) {
    if (!is_finite(tensor.dtype, bytes.data() + i)) return false;
  }
  return true;
}

/// Rows of the experts' buffers that hold tokens.
Tensor used_rows(const StepContext& context, Routing routing) {
  const ChunkExchange& last = exchange_of(context, routing).chunks.back();
  return routed_state(context, routing).active.slice(0, last.first_row + last.row_count);
}

struct Candidate {
  std::string name;
  Tensor result;
};

std::vector<Candidate> forward_results(const StepContext& context) {
  const Activations& states = context.states;
  std::vector<Candidate> results = {{"Embed.F", states.blocks.front().x}};
  for (std::size_t block = 0; block < states.blocks.size(); ++block) {
    const auto add = [&](const char* kind, const Tensor& result, const char* suffix = "") {
      results.push_back({fmt::format("L{}.{}.F{}", block, kind, suffix), result});
    };
    add("Attention", states.blocks[block].h);
    const std::optional<MoeFfn>& moe = context.model.blocks[block].moe;
    if (!moe) {
      add("Mlp", block_output(context, block));
      continue;
    }
    for (const bool second : {false, true}) {
      if (second && !moe->double_gate) continue;
      add("Gate", routed_state(context, {block, second}).scores, second ? ".second" : "");
      add("Expert", used_rows(context, {block, second}), second ? ".second" : "");
    }
    add("SharedExpert", states.blocks[block].routed.shared);
    add("Decode", block_output(context, block));
  }
  results.push_back({"Head.F", states.head.loss});
  return results;
}

}  // namespace

std::string find_divergence(StepContext& context) {
  for (const Candidate& candidate : forward_results(context)) {
    if (!all_finite(context, candidate.result)) return "the result of " + candidate.name;
  }
  for (const ParameterStore::Entry& entry : context.store.entries()) {
    if (!all_finite(context, context.store.tensor(Component::Gradient, entry))) {
      return "the gradient of " + entry.parameter.name;
    }
  }
  return "another rank";
}

}  // namespace moecast
