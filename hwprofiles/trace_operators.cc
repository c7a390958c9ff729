#include "hwprofiles/trace_operators.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <fmt/format.h>

namespace moecast {
namespace {

using Dims = std::vector<std::int64_t>;

/// How an operator's arguments are read.
enum class Form {
  Product,         // [m,k] [k,n] at `argument`; three dimensions: as many products
  GroupedProduct,  // [rows,k] [groups,k,n]
  HeadsFirst,      // attention over [batch, heads, sequence, head_dim]
  TokensFirst,     // over [batch, sequence, heads, head_dim]
  Rows,            // a memory-bound kernel on the rows of `argument`
  Flat,            // the same, whatever the rows
};

struct Rule {
  Form form = Form::Flat;
  std::size_t argument = 0;  // the first that counts
  bool backward = false;     // attention
  std::size_t causal = 0;    // attention: the argument that says so
  MemoryKernel kernel = MemoryKernel::Copy;
  double operands = 2;  // of its size, read or written
};

const std::map<std::string, Rule>& rules() {
  using K = MemoryKernel;
  static const std::map<std::string, Rule> kRules = {
      {"aten::mm", {Form::Product, 0}},
      {"aten::addmm", {Form::Product, 1}},
      {"aten::_addmm_activation", {Form::Product, 1}},
      {"aten::bmm", {Form::Product, 0}},
      {"aten::baddbmm", {Form::Product, 1}},
      {"aten::_grouped_mm", {Form::GroupedProduct, 0}},
      {"aten::_scaled_dot_product_flash_attention", {Form::HeadsFirst, 0, false, 4}},
      {"aten::_scaled_dot_product_flash_attention_backward", {Form::HeadsFirst, 1, true, 11}},
      {"aten::_scaled_dot_product_cudnn_attention", {Form::HeadsFirst, 0, false, 6}},
      {"aten::_flash_attention_forward", {Form::TokensFirst, 0, false, 8}},
      {"aten::_flash_attention_backward", {Form::TokensFirst, 1, true, 11}},
      {"flash_attn::_flash_attn_forward", {Form::TokensFirst, 0, false, 5}},
      {"flash_attn::_flash_attn_backward", {Form::TokensFirst, 1, true, 11}},
      {"aten::native_layer_norm", {Form::Rows, 0, false, 0, K::Norm, 2}},
      {"aten::_fused_rms_norm", {Form::Rows, 0, false, 0, K::Norm, 2}},
      {"aten::native_layer_norm_backward", {Form::Rows, 0, false, 0, K::NormBackward, 3}},
      {"aten::_fused_rms_norm_backward", {Form::Rows, 0, false, 0, K::NormBackward, 3}},
      {"aten::gelu", {Form::Rows, 0, false, 0, K::Activation, 2}},
      {"aten::silu", {Form::Rows, 0, false, 0, K::Activation, 2}},
      {"aten::relu", {Form::Rows, 0, false, 0, K::Activation, 2}},
      {"aten::gelu_backward", {Form::Rows, 0, false, 0, K::ActivationBackward, 3}},
      {"aten::silu_backward", {Form::Rows, 0, false, 0, K::ActivationBackward, 3}},
      {"aten::add", {Form::Rows, 0, false, 0, K::Add, 3}},
      {"aten::add_", {Form::Rows, 0, false, 0, K::Add, 3}},
      {"aten::copy_", {Form::Flat, 0, false, 0, K::Copy, 2}},
      {"aten::sigmoid", {Form::Flat, 0, false, 0, K::Sigmoid, 2}},
      {"aten::sigmoid_backward", {Form::Flat, 0, false, 0, K::SigmoidBackward, 3}},
      {"aten::fill_", {Form::Flat, 0, false, 0, K::Fill, 1}},
      {"aten::zero_", {Form::Flat, 0, false, 0, K::Fill, 1}},
  };
  return kRules;
}

/// Bytes of a type as PyTorch's operators ("c10::BFloat16", "float") and collectives ("BFloat16", "Float") name it.
std::int64_t bytes_of_type(std::string name) {
  if (const std::size_t colons = name.rfind(':'); colons != std::string::npos) name = name.substr(colons + 1);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  static const std::map<std::string, std::int64_t> kBytes = {
      {"double", 8},        {"long", 8},        {"long int", 8}, {"int64", 8},         {"float", 4},      {"int", 4},
      {"bfloat16", 2},      {"half", 2},        {"short", 2},    {"short int", 2},     {"byte", 1},       {"char", 1},
      {"unsigned char", 1}, {"signed char", 1}, {"bool", 1},     {"float8_e4m3fn", 1}, {"float8_e5m2", 1}};
  const auto found = kBytes.find(name);
  return found == kBytes.end() ? 0 : found->second;
}

std::int64_t product_of(const Dims& dims, std::size_t count) {
  return std::accumulate(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(count), std::int64_t{1},
                         std::multiplies<>());
}

const Dims& dims_at(const TraceEvent& op, std::size_t index) {
  static const Dims kNone;
  return index < op.dims.size() ? op.dims[index] : kNone;
}

TracedWork none(std::string reason) { return {std::nullopt, std::move(reason), {}}; }
constexpr const char* kNoShapes = "no shapes in the trace (record_shapes=True has them)";

TracedWork product(const TraceEvent& op, const Rule& rule) {
  const Dims &a = dims_at(op, rule.argument), &b = dims_at(op, rule.argument + 1);
  if (a.size() == 2 && b.size() == 2) return {GemmWork{a[0], b[1], a[1]}, {}, {}};
  if (a.size() == 3 && b.size() == 3) {
    return {GroupedGemmWork{a[0], static_cast<double>(a[1]), b[2], a[2]}, {}, {}};
  }
  return none(kNoShapes);
}

TracedWork grouped_product(const TraceEvent& op, const Rule& rule) {
  const Dims &a = dims_at(op, rule.argument), &b = dims_at(op, rule.argument + 1);
  if (a.empty() || b.empty()) return none(kNoShapes);
  if (a.size() != 2 || b.size() != 3 || b[0] == 0) return none("a grouped product over something else than rows");
  return {GroupedGemmWork{b[0], static_cast<double>(a[0]) / static_cast<double>(b[0]), b[2], a[1]}, {}, {}};
}

TracedWork attention(const TraceEvent& op, const Rule& rule) {
  const Dims &q = dims_at(op, rule.argument), &k = dims_at(op, rule.argument + 1);
  if (q.size() != 4 || k.size() != 4) return none(kNoShapes);
  if (rule.causal < op.values.size() && op.values[rule.causal] == "False") return none("attention that is not causal");
  const std::size_t heads = rule.form == Form::HeadsFirst ? 1 : 2, sequence = 3 - heads;
  if (q[sequence] != k[sequence]) return none("attention of a part of the sequence");
  AttentionWork work{q[0], q[sequence], q[heads], k[heads], q[3]};
  work.backward = rule.backward;
  return {work, {}, {}};
}

TracedWork memory_bound(const TraceEvent& op, const Rule& rule) {
  const Dims& dims = dims_at(op, rule.argument);
  const std::int64_t width = op.types.empty() ? 0 : bytes_of_type(op.types[rule.argument]);
  if (dims.empty() || width == 0) return none(kNoShapes);
  MemoryWork work{rule.kernel, 1, product_of(dims, dims.size())};
  double bytes = rule.operands * static_cast<double>(work.columns * width);
  if (rule.form == Form::Rows) work = {rule.kernel, product_of(dims, dims.size() - 1), dims.back()};
  if (work.kernel == MemoryKernel::Add && dims_at(op, 1) != dims) return none("a sum of tensors of two shapes");
  if (work.kernel == MemoryKernel::Copy) {
    const std::int64_t other = op.types.size() < 2 ? 0 : bytes_of_type(op.types[1]);
    if (dims_at(op, 1) != dims || other == 0) return none("a copy of two shapes");
    if (op.types[0] != op.types[1]) work.kernel = MemoryKernel::Cast;
    bytes = static_cast<double>(work.columns * (width + other));
  }
  work.bytes = Bytes(static_cast<std::int64_t>(bytes));
  return {work, {}, {}};
}

TracedWork read_arguments(const TraceEvent& op, const Rule& rule) {
  switch (rule.form) {
    case Form::Product:
      return product(op, rule);
    case Form::GroupedProduct:
      return grouped_product(op, rule);
    case Form::HeadsFirst:
    case Form::TokensFirst:
      return attention(op, rule);
    case Form::Rows:
    case Form::Flat:
      return memory_bound(op, rule);
  }
  return none("");
}

bool has_size(const Work& work) { return flops(work).value() > 0 || std::holds_alternative<MemoryWork>(work); }

std::optional<Collective> kind_of(std::string name) {
  std::erase_if(name, [](unsigned char c) { return std::isalpha(c) == 0; });
  if (name.starts_with("allreduce")) return Collective::AllReduce;
  if (name.starts_with("alltoall")) return Collective::AllToAll;
  if (name.starts_with("allgather")) return Collective::AllGather;
  if (name.starts_with("reducescatter")) return Collective::ReduceScatter;
  if (name.starts_with("broadcast")) return Collective::Broadcast;
  return std::nullopt;
}

}  // namespace

bool is_known_operator(const std::string& name) { return rules().contains(name); }

TracedWork work_of(const TraceEvent& op) {
  const Rule& rule = rules().at(op.name);
  TracedWork traced = read_arguments(op, rule);
  if (traced.work && !has_size(*traced.work)) traced = none("nothing to do");
  if (rule.argument < op.types.size()) traced.element_type = op.types[rule.argument];
  return traced;
}

TracedCollective collective_of(const TraceEvent& kernel) {
  if (kernel.collective.empty() || kernel.group_size == 0) {
    return {std::nullopt, "no sizes in the trace (PyTorch 2.4 and newer write them)"};
  }
  const std::optional<Collective> kind = kind_of(kernel.collective);
  if (!kind) return {std::nullopt, fmt::format("\"{}\" has no place in a profile", kernel.collective)};
  if (kernel.group_size == 1) return {std::nullopt, "a group of one"};
  const std::int64_t bytes = std::max(kernel.elements_in, kernel.elements_out) * bytes_of_type(kernel.dtype);
  if (bytes == 0) return {std::nullopt, "no bytes"};
  return {Communication{*kind, Group::World, Bytes(bytes)}, {}};
}

}  // namespace moecast
