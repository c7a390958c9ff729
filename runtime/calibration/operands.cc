#include "runtime/calibration/operands.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/random.h"

namespace moecast {
namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{32} << 20;
constexpr std::int64_t kRandomBytes = std::int64_t{1} << 20;
constexpr std::int64_t kAlignment = 256;  // what CUDA allocations have

std::int64_t element_count(std::initializer_list<std::int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// Uniform in [-1, 1). BF16 is the upper half of a float; two of them read as one float are in that range too.
std::vector<std::byte> random_values(DType dtype) {
  std::vector<std::byte> bytes(kRandomBytes);
  const std::int64_t size = bytes_per_element(dtype);
  const CounterRandom random(1, stream_of("bench operands"));
  for (std::int64_t i = 0; i < kRandomBytes / size; ++i) {
    const double value = 2 * random.uniform(static_cast<std::uint64_t>(i), 0) - 1;
    const auto single = static_cast<float>(value);
    const auto half = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(single) >> 16);
    const void* source = &single;
    if (dtype == DType::F64) source = &value;
    if (dtype == DType::BF16) source = &half;
    std::memcpy(bytes.data() + i * size, source, static_cast<std::size_t>(size));
  }
  return bytes;
}

}  // namespace

Operands::Operands(Backend& backend, DType compute)
    : backend_(backend), compute_(compute), random_(random_values(compute)) {}

void Operands::reset() {
  for (Region* region : {&inputs_, &outputs_}) {
    for (Region::Block& block : region->blocks) block.used = 0;
  }
}

void Operands::fill_random(void* memory, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at += kRandomBytes) {
    const std::int64_t count = std::min(kRandomBytes, bytes - at) / bytes_per_element(compute_);
    backend_.upload(Lane::Compute, Tensor(static_cast<char*>(memory) + at, compute_, {count}), random_.data());
  }
}

std::optional<std::size_t> Operands::block_with(Region& region, std::int64_t bytes) {
  for (std::size_t i = 0; i < region.blocks.size(); ++i) {
    if (region.blocks[i].used + bytes <= region.blocks[i].memory->size().count()) return i;
  }
  auto memory = backend_.allocate(Bytes(std::max(bytes, kBlockBytes)));
  if (!memory.ok()) {
    if (status_.ok()) status_ = memory.error();
    return std::nullopt;
  }
  region.blocks.push_back({std::move(*memory), 0});
  fill_random(region.blocks.back().memory->data(), region.blocks.back().memory->size().count());
  return region.blocks.size() - 1;
}

Tensor Operands::take(Region& region, DType dtype, std::initializer_list<std::int64_t> shape) {
  const std::int64_t bytes = element_count(shape) * bytes_per_element(dtype);
  const std::int64_t padded = std::max<std::int64_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
  const std::optional<std::size_t> index = block_with(region, padded);
  if (!index) return {};
  Region::Block& block = region.blocks[*index];
  Tensor tensor(static_cast<char*>(block.memory->data()) + block.used, dtype, shape);
  block.used += padded;
  return tensor;
}

Tensor Operands::input(DType dtype, std::initializer_list<std::int64_t> shape) { return take(inputs_, dtype, shape); }
Tensor Operands::output(DType dtype, std::initializer_list<std::int64_t> shape) { return take(outputs_, dtype, shape); }

Tensor Operands::fresh_output(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor = output(dtype, shape);
  if (!tensor.empty()) fill_random(tensor.data, tensor.bytes().count());
  return tensor;
}

Tensor Operands::indices(std::initializer_list<std::int64_t> shape, std::int64_t limit) {
  Tensor tensor = output(DType::I32, shape);
  if (tensor.empty()) return tensor;
  const CounterRandom random(2, stream_of("bench indices"));
  std::vector<std::int32_t> values(static_cast<std::size_t>(tensor.element_count()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(random.below(limit, i, 0));
  backend_.upload(Lane::Compute, tensor, values.data());
  backend_.synchronize(Lane::Compute);
  return tensor;
}

Tensor Operands::scattered_rows(std::int64_t tokens, std::int64_t choices, std::int64_t row_count) {
  ASSERT(tokens * choices <= row_count, "{} choices in {} rows", tokens * choices, row_count);
  Tensor tensor = output(DType::I32, {tokens, choices});
  if (tensor.empty()) return tensor;
  // Steps of about 0.618 of the rows, coprime to their number, visit every row once.
  std::int64_t step = std::max<std::int64_t>(1, row_count * 618 / 1000);
  while (std::gcd(step, row_count) != 1) ++step;
  std::vector<std::int32_t> values(static_cast<std::size_t>(tensor.element_count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * step % row_count);
  }
  backend_.upload(Lane::Compute, tensor, values.data());
  backend_.synchronize(Lane::Compute);
  return tensor;
}

}  // namespace moecast
