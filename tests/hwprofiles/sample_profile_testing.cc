#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast::testing {
namespace {

CostCurve curve(double size, std::int64_t ns) {
  return {{{size, Duration(ns)}, {size * 3, Duration(ns * 2 + 1)}, {size * 100, Duration(ns * 70)}}};
}

GemmTable table(double rate) {
  GemmTable result{{16, 300}, {8, 512}, {32}, {}, Duration(1234)};
  for (int i = 0; i < 4; ++i) result.flops_per_second.push_back(rate * (1 + i / 7.0));
  return result;
}

}  // namespace

HardwareProfile sample_profile() {
  HardwareProfile profile;
  profile.name = "sample";
  profile.description = "made up";
  profile.sources = {{"/device", {SourceKind::Datasheet, "a sheet"}},
                     {"/device/gemm", {SourceKind::Measured, "a bench"}},
                     {"/node", {SourceKind::Published, "a paper, table 3"}},
                     {"/interference", {SourceKind::Assumed, "a guess"}},
                     {"/fit", {SourceKind::Measured, "a bench"}}};
  profile.device.name = "thing one";
  profile.device.peak = FlopsPerSecond(19.5e12);
  profile.device.memory_rate = BytesPerSecond(1.0 / 3 * 1e12);
  profile.device.memory = Bytes(80'000'000'001);
  profile.device.gemm = table(1e12 / 3);
  profile.device.grouped_gemm = table(7e11 / 9);
  profile.device.attention_forward = {{64, 128}, {512}, {curve(4, 1000), curve(2.5, 3333)}};
  profile.device.attention_backward = {{64}, {512, 2048}, {curve(4, 2001), curve(8, 30001)}};
  profile.device.memory_kernels[MemoryKernel::Copy] = {{1}, {curve(1000, 77)}};
  profile.device.memory_kernels[MemoryKernel::SigmoidBackward] = {{8, 4096}, {curve(1024, 5), curve(65536, 9)}};
  profile.device.operator_overhead = Duration(987);
  profile.node.ranks = 8;
  profile.node.all_to_all = {Duration(12'345), BytesPerSecond(3e11), {{65536, 0.1}, {1e9, 1.0 / 3}}};
  profile.node.all_reduce = {Duration(21'000), BytesPerSecond(2.5e11), {}};
  profile.node.switch_bandwidth = BytesPerSecond(2.4e12);
  profile.interference = {1.07, 1.3, 1.02};
  profile.node.host_link = HostLink{BytesPerSecond(25e9), true};
  profile.fit = FitQuality{0.0123, 0.0456, 31};
  return profile;
}

}  // namespace moecast::testing
