#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "hwprofiles/profile_json.h"
#include "sim/collectives.h"

namespace moecast {
namespace {

/// Bus bandwidth as nccl-tests counts it, GB/s: bytes through a rank's port over the time.
struct Published {
  const char* profile;
  Collective collective;
  std::int32_t gpus;
  double megabytes;
  double bus;
};

/// |ours / published - 1|.
double error_of(const Published& row) {
  Result<HardwareProfile> hardware = find_profile(row.profile, ".");
  EXPECT_TRUE(hardware.ok());
  const Topology topology(*hardware->cluster);
  CollectiveModel model(topology);
  std::vector<std::int32_t> gpus(static_cast<std::size_t>(row.gpus));
  std::iota(gpus.begin(), gpus.end(), 0);
  const Bytes buffer(static_cast<std::int64_t>(row.megabytes * 1024 * 1024));
  const Duration time = model.cost(row.collective, buffer, model.shape(gpus)).time();
  return std::abs(port_bytes(row.collective, buffer, row.gpus) / seconds(time) / (row.bus * 1e9) - 1);
}

double median_error(const std::vector<Published>& rows) {
  std::vector<double> errors;
  for (const Published& row : rows) errors.push_back(error_of(row));
  std::sort(errors.begin(), errors.end());
  return errors[errors.size() / 2];
}

/// Azure/AI-benchmarking-guide, ND A100 v4 and ND H100 v5, all-reduce on eight GPUs: other machines than those whose
/// measurements the profiles hold.
TEST(PublishedCollectives, AllReduceOnOtherMachines) {
  EXPECT_LE(median_error({{"a100_cluster", Collective::AllReduce, 8, 4, 71.4},
                          {"a100_cluster", Collective::AllReduce, 8, 16, 109.2},
                          {"a100_cluster", Collective::AllReduce, 8, 64, 166.6},
                          {"a100_cluster", Collective::AllReduce, 8, 256, 213.9},
                          {"a100_cluster", Collective::AllReduce, 8, 1024, 228.1},
                          {"h100_cluster", Collective::AllReduce, 8, 4, 128.7},
                          {"h100_cluster", Collective::AllReduce, 8, 16, 234.5},
                          {"h100_cluster", Collective::AllReduce, 8, 64, 361.8},
                          {"h100_cluster", Collective::AllReduce, 8, 256, 423.4},
                          {"h100_cluster", Collective::AllReduce, 8, 1024, 466.4}}),
            0.12);
}

/// Nothing in the profiles is fitted to groups of several nodes: rings over rails, with the efficiency of another
/// machine's NICs, one curve for all collectives: rings come out up to a fifth too slow, all-to-alls as much too fast.
/// coreweave/nccl-tests, 64 H100 with NDR; NVIDIA GTC25 S72583: 32 GPUs with 200 and 400 Gb/s a GPU.
TEST(PublishedCollectives, AcrossNodes) {
  EXPECT_LE(median_error({{"h100_cluster", Collective::AllReduce, 64, 512, 356},
                          {"h100_cluster", Collective::AllReduce, 64, 1024, 366},
                          {"h100_cluster", Collective::AllReduce, 64, 8192, 386},
                          {"a100_cluster", Collective::AllReduce, 32, 4096, 192},
                          {"h100_cluster", Collective::AllToAll, 32, 4096, 48},
                          {"a100_cluster", Collective::AllToAll, 32, 4096, 24}}),
            0.2);
}

/// The same source: all-to-all on eight GPUs, large messages.
TEST(PublishedCollectives, AllToAllOnOneNode) {
  EXPECT_LE(median_error({{"a100_cluster", Collective::AllToAll, 8, 4096, 210},
                          {"h100_cluster", Collective::AllToAll, 8, 4096, 320},
                          {"b200_cluster", Collective::AllToAll, 8, 4096, 640}}),
            0.1);
}

}  // namespace
}  // namespace moecast
