#include "runtime/cuda/bench/bench.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace moecast::cuda {
namespace {

float event_milliseconds(cudaEvent_t from, cudaEvent_t to) {
  cudaEventSynchronize(to);
  float milliseconds = 0;
  cudaEventElapsedTime(&milliseconds, from, to);
  return milliseconds;
}

}  // namespace

Tensor Bench::empty(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor(nullptr, dtype, shape);
  Result<std::unique_ptr<DeviceMemory>> memory = backend_.allocate(tensor.bytes());
  ASSERT(memory.ok(), "{}", memory.error().text());
  tensor.data = (*memory)->data();
  memory_.push_back(std::move(memory).value());
  return tensor;
}

Tensor Bench::random(DType dtype, std::initializer_list<std::int64_t> shape) {
  constexpr std::int64_t kPattern = 1 << 20;
  const Tensor tensor = empty(dtype, shape);
  const std::int64_t count = tensor.element_count();
  std::mt19937 generator(static_cast<unsigned>(memory_.size()));
  std::vector<float> values(static_cast<std::size_t>(std::min(count, kPattern)));
  for (float& value : values) value = static_cast<float>(generator() >> 8) * 0x1p-23f - 1.0f;
  const Tensor pattern = empty(DType::F32, {static_cast<std::int64_t>(values.size())});
  backend_.upload(kLane, pattern, values.data());
  const Tensor flat = tensor.reshaped({count});
  std::int64_t done = std::min(count, kPattern);
  backend_.cast(kLane, flat.slice(0, done), pattern);
  while (done < count) {
    const std::int64_t next = std::min(done, count - done);
    backend_.copy(kLane, flat.slice(done, done + next), flat.slice(0, next));
    done += next;
  }
  backend_.synchronize(kLane);
  return tensor;
}

Tensor Bench::integers(std::initializer_list<std::int64_t> shape, const std::vector<std::int32_t>& values) {
  const Tensor tensor = empty(DType::I32, shape);
  ASSERT(tensor.element_count() == static_cast<std::int64_t>(values.size()));
  backend_.upload(kLane, tensor, values.data());
  backend_.synchronize(kLane);
  return tensor;
}

void Bench::release() {
  backend_.synchronize(kLane);
  memory_.clear();
}

double Bench::seconds(const std::function<void()>& call) {
  cudaStream_t stream = backend_.stream(kLane);
  cudaEvent_t from = nullptr;
  cudaEvent_t to = nullptr;
  cudaEventCreate(&from);
  cudaEventCreate(&to);
  const auto sample = [&](int calls) {
    cudaEventRecord(from, stream);
    for (int i = 0; i < calls; ++i) call();
    cudaEventRecord(to, stream);
    return event_milliseconds(from, to) / static_cast<double>(calls);
  };
  sample(2);
  const double estimate = sample(3);
  const int calls = std::clamp(static_cast<int>(std::ceil(2.0 / std::max(estimate, 1e-4))), 1, 400);
  std::vector<double> samples;
  for (int i = 0; i < 7; ++i) samples.push_back(sample(calls));
  std::sort(samples.begin(), samples.end());
  cudaEventDestroy(from);
  cudaEventDestroy(to);
  return samples[samples.size() / 2] * 1e-3;
}

}  // namespace moecast::cuda
