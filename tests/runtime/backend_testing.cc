#include "tests/runtime/backend_testing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

namespace moecast::testing {
namespace {

constexpr std::int64_t kGuardBytes = 256;

std::uint16_t to_bf16(double value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return static_cast<std::uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);  // to nearest, ties to even
}

double from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

template <typename T>
void write_element(std::vector<std::byte>& bytes, std::size_t index, T value) {
  std::memcpy(bytes.data() + index * sizeof(T), &value, sizeof(T));
}

template <typename T>
T read_element(const std::vector<std::byte>& bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

std::vector<std::byte> encode(DType dtype, const Values& values) {
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(bytes_per_element(dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (dtype) {
      case DType::F32:
        write_element(bytes, i, static_cast<float>(values[i]));
        break;
      case DType::F64:
        write_element(bytes, i, values[i]);
        break;
      case DType::BF16:
        write_element(bytes, i, to_bf16(values[i]));
        break;
      case DType::I32:
        write_element(bytes, i, static_cast<std::int32_t>(values[i]));
        break;
    }
  }
  return bytes;
}

double decode(DType dtype, const std::vector<std::byte>& bytes, std::size_t index) {
  switch (dtype) {
    case DType::F32:
      return read_element<float>(bytes, index);
    case DType::F64:
      return read_element<double>(bytes, index);
    case DType::BF16:
      return from_bf16(read_element<std::uint16_t>(bytes, index));
    case DType::I32:
      return read_element<std::int32_t>(bytes, index);
  }
  return 0;
}

Tensor view(void* data, DType dtype, const Shape& shape) {
  Tensor tensor(data, dtype, {shape.at(0)});
  tensor.dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.shape.begin());
  return tensor;
}

double root_mean_square(const Values& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace

BackendTester::BackendTester(const BackendCase& subject)
    : subject_(subject), backend_(subject.make()), generator_(20240607) {}

BackendTester::~BackendTester() {
  if (!available()) return;
  const Status status = backend_->check();
  EXPECT_TRUE(status.ok()) << (status.ok() ? "" : status.error().text());
  expect_guards_intact();
}

Tensor BackendTester::allocate(DType dtype, const Shape& shape) {
  Tensor tensor = view(nullptr, dtype, shape);
  const std::int64_t size = tensor.bytes().count();
  const std::int64_t total = size + 2 * kGuardBytes;
  auto memory = backend_->allocate(Bytes(total));
  EXPECT_TRUE(memory.ok());
  const std::vector<std::byte> poison(static_cast<std::size_t>(total), std::byte{0xFF});
  const Tensor whole((*memory)->data(), DType::I32, {total / 4});
  Tensor rest(static_cast<char*>((*memory)->data()) + total / 4 * 4, DType::BF16, {total % 4 / 2});
  backend_->upload(Lane::Compute, whole, poison.data());
  if (rest.element_count() > 0) backend_->upload(Lane::Compute, rest, poison.data());
  backend_->synchronize(Lane::Compute);
  tensor.data = static_cast<char*>((*memory)->data()) + kGuardBytes;
  allocations_.push_back(Allocation{std::move(*memory), size});
  return tensor;
}

void BackendTester::expect_guards_intact() {
  for (const Allocation& allocation : allocations_) {
    const std::int64_t total = allocation.size + 2 * kGuardBytes;
    const Tensor whole(allocation.memory->data(), DType::BF16, {total / 2});
    const std::vector<std::byte> bytes = read_bytes(whole);
    for (std::int64_t i = 0; i < kGuardBytes; ++i) {
      const std::size_t before = static_cast<std::size_t>(i);
      const std::size_t after = static_cast<std::size_t>(kGuardBytes + allocation.size + i);
      ASSERT_EQ(bytes[before], std::byte{0xFF}) << "written " << kGuardBytes - i << " bytes before a tensor";
      ASSERT_EQ(bytes[after], std::byte{0xFF}) << "written " << i << " bytes after a tensor";
    }
  }
}

Tensor BackendTester::poisoned(DType dtype, const Shape& shape) { return allocate(dtype, shape); }

Tensor BackendTester::upload(DType dtype, const Shape& shape, const Values& values) {
  const Tensor tensor = allocate(dtype, shape);
  EXPECT_EQ(tensor.element_count(), static_cast<std::int64_t>(values.size()));
  const std::vector<std::byte> bytes = encode(dtype, values);
  backend_->upload(Lane::Compute, tensor, bytes.data());
  backend_->synchronize(Lane::Compute);  // the host bytes die here
  return tensor;
}

Tensor BackendTester::upload(const Shape& shape, const Integers& values) {
  return upload(DType::I32, shape, Values(values.begin(), values.end()));
}

Tensor BackendTester::random(DType dtype, const Shape& shape, double low, double high) {
  Values values(static_cast<std::size_t>(view(nullptr, dtype, shape).element_count()));
  for (double& value : values) value = low + (high - low) * static_cast<double>(generator_() >> 11) * 0x1p-53;
  return upload(dtype, shape, values);
}

Integers BackendTester::random_integers(std::int64_t count, std::int32_t limit) {
  Integers values(static_cast<std::size_t>(count));
  for (std::int32_t& value : values) {
    value = static_cast<std::int32_t>(generator_() % static_cast<std::uint64_t>(limit));
  }
  return values;
}

std::vector<std::byte> BackendTester::read_bytes(Tensor tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes().count()));
  backend_->download(Lane::Compute, bytes.data(), tensor);
  backend_->synchronize(Lane::Compute);
  return bytes;
}

Values BackendTester::read(Tensor tensor) {
  const std::vector<std::byte> bytes = read_bytes(tensor);
  Values values(static_cast<std::size_t>(tensor.element_count()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = decode(tensor.dtype, bytes, i);
  return values;
}

Integers BackendTester::read_integers(Tensor tensor) {
  const Values values = read(tensor);
  return Integers(values.begin(), values.end());
}

void BackendTester::expect_close(Tensor actual, const Values& expected, std::string_view what, double reference_error) {
  const Values values = read(actual);
  ASSERT_EQ(values.size(), expected.size()) << what;
  const bool is_compute = actual.dtype == subject_.compute;
  const double tolerance = std::max(is_compute ? subject_.tolerance : subject_.gradient_tolerance, reference_error);
  const double typical = root_mean_square(expected);
  int reported = 0;
  for (std::size_t i = 0; i < values.size() && reported < 3; ++i) {
    const double allowed = tolerance * (std::abs(expected[i]) + typical);
    const bool close = std::abs(values[i] - expected[i]) <= allowed;  // false for NaN
    EXPECT_TRUE(close) << what << "[" << i << "] of " << values.size() << " is " << values[i] << ", expected "
                       << expected[i] << " within " << allowed;
    if (!close) ++reported;
  }
}

}  // namespace moecast::testing
