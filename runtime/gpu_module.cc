#include "runtime/gpu_module.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>

namespace moecast {
namespace {

constexpr const char* kFileName = "moecast_gpu.so";

std::vector<std::string> candidates() {
  if (const char* path = std::getenv("MOECAST_GPU_MODULE"); path != nullptr && *path != '\0') return {path};
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const std::filesystem::path folder = program.parent_path();
  return {(folder / kFileName).string(), (folder.parent_path() / "lib" / "moecast" / kFileName).string()};
}

Error unavailable(const std::string& place, const std::string& message) {
  return Error{ErrorKind::Unavailable, place, message};
}

Result<const GpuModule*> open_module(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: its objects may outlive any scope
  if (library == nullptr) return unavailable("GPU module", dlerror());
  void* symbol = dlsym(library, kGpuModuleEntry);
  if (symbol == nullptr) return unavailable(path, "not a moecast GPU module");
  const auto entry = reinterpret_cast<const GpuModule* (*)(int)>(symbol);
  const GpuModule* module = entry(kGpuModuleAbi);
  if (module == nullptr) return unavailable(path, "was built for another version of moecast");
  return module;
}

}  // namespace

Result<const GpuModule*> load_gpu_module() {
  std::string tried;
  for (const std::string& path : candidates()) {
    std::error_code error;
    if (std::filesystem::exists(path, error)) return open_module(path);  // dlopen itself counts its openings
    tried += (tried.empty() ? "" : ", ") + path;
  }
  return unavailable("GPU module", fmt::format("not found (looked for {}); was moecast built with CUDA?",
                                               tried.empty() ? kFileName : tried));
}

Result<GpuMachine> describe_gpus() {
  const Result<const GpuModule*> module = load_gpu_module();
  if (!module.ok()) return module.error();
  return (*module)->describe();
}

Result<const NcclFunctions*> load_nccl() {
  const Result<const GpuModule*> module = load_gpu_module();
  if (!module.ok()) return module.error();
  return (*module)->load_nccl();
}

Result<std::unique_ptr<Backend>> make_cuda_backend(int device) {
  const Result<const GpuModule*> module = load_gpu_module();
  if (!module.ok()) return module.error();
  return (*module)->make_backend(device);
}

}  // namespace moecast
