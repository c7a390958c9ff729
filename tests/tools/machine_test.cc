#include "tools/machine.h"

#include <gtest/gtest.h>

namespace moecast {
namespace {

TEST(Machine, ReadsWhatLinuxSays) {
  const char* cpu = "processor\t: 0\nmodel name\t: AMD EPYC 7B13 \nmodel name\t: other\n";
  EXPECT_EQ(cpuinfo_value(cpu, "model name"), "AMD EPYC 7B13");
  EXPECT_EQ(cpuinfo_value(cpu, "cache size"), "");
  EXPECT_EQ(meminfo_value("MemTotal:       16 kB\nMemAvailable:   8 kB\n", "MemAvailable"), Bytes(8192));
  EXPECT_FALSE(meminfo_value("", "MemTotal").has_value());
  EXPECT_EQ(cuda_version_of_header("x\n#define CUDA_VERSION 13000\n"), "13.0");
  EXPECT_EQ(cuda_version_of_header("#define CUDA_VERSION 12080\n"), "12.8");
  EXPECT_EQ(cuda_version_of_header(""), "");
}

TEST(Machine, HasWhatEveryMachineHas) {
  const Machine machine = look_at_machine();
  EXPECT_GE(machine.cores, 1);
  EXPECT_GE(machine.hardware_threads, machine.cores);
  EXPECT_FALSE(machine.instructions.empty());
  EXPECT_GT(machine.memory.count(), 0);
  EXPECT_GT(machine.disk_free.count(), 0);
  if (!machine.gpus.ok()) {
    EXPECT_FALSE(machine.gpus.error().text().empty());
  }
}

}  // namespace
}  // namespace moecast
