#include <fmt/core.h>

#include "runtime/cuda/bench/bench.h"

namespace moecast::cuda {
namespace {

/// Seconds of the plain copy of the library on a stream of its own: the limit.
double plain_copy(Bench& bench, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  cudaStream_t stream = bench.backend().stream(Bench::kLane);
  return bench.seconds([&] { cudaMemcpyAsync(to, from, bytes, kind, stream); });
}

}  // namespace

void bench_transfers(Bench& bench) {
  bench.table().heading("host transfers against the plain pinned copy");
  CudaBackend& backend = bench.backend();
  const Tensor device = bench.random(DType::BF16, {1 << 27});
  const auto host = backend.allocate_host(device.bytes());
  ASSERT(host.ok(), "{}", host.error().text());
  void* pinned = (*host)->data();
  const std::size_t bytes = static_cast<std::size_t>(device.bytes().count());
  const double giga = static_cast<double>(bytes) * 1e-9;
  const double down_limit = giga / plain_copy(bench, pinned, device.data, bytes, cudaMemcpyDeviceToHost);
  const double up_limit = giga / plain_copy(bench, device.data, pinned, bytes, cudaMemcpyHostToDevice);
  const double down = bench.seconds([&] { backend.download(Bench::kLane, pinned, device); });
  bench.table().add({"device to host", "256 MiB pinned", down, giga / down, "GB/s", down_limit, "copy", 0.9});
  const double up = bench.seconds([&] { backend.upload(Bench::kLane, device, pinned); });
  bench.table().add({"host to device", "256 MiB pinned", up, giga / up, "GB/s", up_limit, "copy", 0.9});
  for (const std::int64_t kib : {16, 256, 4096}) {
    const Tensor part = device.reshaped({device.element_count()}).slice(0, kib * 512);
    const double seconds = bench.seconds([&] { backend.download(Bench::kLane, pinned, part); });
    bench.table().add({"device to host", fmt::format("{} KiB pinned", kib), seconds,
                       part.bytes().value() / seconds * 1e-9, "GB/s", down_limit, "copy", 0});
  }
  bench.release();
}

}  // namespace moecast::cuda
