#include <fmt/core.h>

#include <cstring>
#include <string>

#include "runtime/cuda/bench/bench.h"

namespace {

constexpr const char* kHelp =
    "moecast_gpu_bench [--json FILE] [--device N] [GROUP...]\n"
    "Measures the CUDA backend's operators, each as a fraction of a limit measured in the same run.\n"
    "Groups (default: all): products grouped memory attention transfers moe. The GPU tests check the answers.\n"
    "Exit code 0 when done, 2 on bad options or without a GPU, 3 if a kernel failed.\n";

struct Options {
  std::string json;
  int device = 0;
  std::vector<std::string> groups;
  bool help = false;
};

Options parse(int count, char** values) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string value = values[i];
    if (value == "--json" && i + 1 < count) {
      options.json = values[++i];
    } else if (value == "--device" && i + 1 < count) {
      options.device = std::atoi(values[++i]);
    } else if (value.starts_with("-")) {
      options.help = true;
    } else {
      options.groups.push_back(value);
    }
  }
  return options;
}

}  // namespace

int main(int count, char** values) {
  using namespace moecast;
  const Options options = parse(count, values);
  if (options.help) {
    fmt::print("{}", kHelp);
    return 2;
  }
  Result<std::unique_ptr<Backend>> made = cuda::CudaBackend::make(options.device);
  if (!made.ok()) {
    fmt::print(stderr, "{}\n", made.error().text());
    return exit_code(made.error().kind);
  }
  cuda::CudaBackend& backend = static_cast<cuda::CudaBackend&>(**made);
  std::FILE* json = options.json.empty() ? nullptr : std::fopen(options.json.c_str(), "w");
  cuda::Table table(json);
  cuda::Bench bench(backend, table);
  fmt::print("{}\n", backend.device_name());
  cuda::measure_limits(bench);
  const std::pair<const char*, void (*)(cuda::Bench&)> groups[] = {
      {"products", cuda::bench_products},   {"grouped", cuda::bench_grouped_products},
      {"memory", cuda::bench_memory_bound}, {"attention", cuda::bench_attention},
      {"transfers", cuda::bench_transfers}, {"moe", cuda::bench_moe_layer}};
  for (const auto& [name, run] : groups) {
    const bool wanted =
        options.groups.empty() || std::find(options.groups.begin(), options.groups.end(), name) != options.groups.end();
    if (wanted) run(bench);
  }
  if (json != nullptr) std::fclose(json);
  if (const Status status = backend.check(); !status.ok()) {
    fmt::print(stderr, "{}\n", status.error().text());
    return exit_code(status.error().kind);
  }
  fmt::print("\n{} rows below the wanted fraction\n", table.below_count());
  return 0;
}
