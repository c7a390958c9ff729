#include "runtime/cuda/nccl.h"

#include <dlfcn.h>
#include <fmt/core.h>
#include <nccl.h>

#include <cstring>

#include "runtime/cuda/cuda_backend.h"

namespace moecast::cuda {
namespace {

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(kNcclSuccess == ncclSuccess && kNcclInProgress == ncclInProgress);

/// The library's own functions. (Linking it would keep the whole module from loading where there is none.)
struct Library {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) comm_init = nullptr;
  decltype(&ncclCommGetAsyncError) comm_async_error = nullptr;
  decltype(&ncclCommFinalize) comm_finalize = nullptr;
  decltype(&ncclCommDestroy) comm_destroy = nullptr;
  decltype(&ncclCommAbort) comm_abort = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) receive = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;
};

Result<Library> open_library() {
  void* file = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) return Error{ErrorKind::Unavailable, "NCCL", dlerror()};
  Library library;
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(file, name);
    if (symbol == nullptr) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
  };
  find(library.get_version, "ncclGetVersion");
  find(library.get_unique_id, "ncclGetUniqueId");
  find(library.comm_init, "ncclCommInitRankConfig");
  find(library.comm_async_error, "ncclCommGetAsyncError");
  find(library.comm_finalize, "ncclCommFinalize");
  find(library.comm_destroy, "ncclCommDestroy");
  find(library.comm_abort, "ncclCommAbort");
  find(library.group_start, "ncclGroupStart");
  find(library.group_end, "ncclGroupEnd");
  find(library.send, "ncclSend");
  find(library.receive, "ncclRecv");
  find(library.all_reduce, "ncclAllReduce");
  find(library.reduce_scatter, "ncclReduceScatter");
  find(library.all_gather, "ncclAllGather");
  find(library.broadcast, "ncclBroadcast");
  find(library.error_string, "ncclGetErrorString");
  find(library.last_error, "ncclGetLastError");
  if (missing.empty()) return library;
  return Error{ErrorKind::Unavailable, "NCCL", fmt::format("libnccl.so.2 is too old: it has no {}", missing)};
}

/// Opened once in the module's life.
const Result<Library>& opened_library() {
  static const Result<Library> library = open_library();
  return library;
}
const Library& library() { return opened_library().value(); }

ncclComm_t comm(NcclHandle handle) { return static_cast<ncclComm_t>(handle); }
cudaStream_t cuda_stream(NcclStream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t cuda_event(NcclEvent event) { return static_cast<cudaEvent_t>(event); }

ncclDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return ncclFloat32;
    case DType::F64:
      return ncclFloat64;
    case DType::BF16:
      return ncclBfloat16;
    case DType::I32:
      return ncclInt32;
  }
  ASSERT(false, "no type of NCCL");
}

int init(NcclHandle* handle, int size, const NcclUniqueId* id, int rank, int max_ctas) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  if (max_ctas > 0) {
    config.minCTAs = 1;
    config.maxCTAs = max_ctas;
  }
  ncclUniqueId nccl_id;
  std::memcpy(&nccl_id, id, sizeof nccl_id);
  ncclComm_t made = nullptr;
  const ncclResult_t code = library().comm_init(&made, size, nccl_id, rank, &config);
  *handle = made;
  return code;
}

int async_error(NcclHandle handle, int* code) {
  ncclResult_t found = ncclSuccess;
  const ncclResult_t asked = library().comm_async_error(comm(handle), &found);
  *code = found;
  return asked;
}

std::string describe(int code, NcclHandle handle) {
  const std::string text = library().error_string(static_cast<ncclResult_t>(code));
  const char* last = library().last_error(comm(handle));
  return last == nullptr || *last == '\0' ? text : fmt::format("{} ({})", text, last);
}

NcclStream stream_of(Backend& backend, Lane lane) { return static_cast<CudaBackend&>(backend).stream(lane); }

NcclEvent create_event() {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  return event;
}

std::string version_text() {
  int number = 0;
  library().get_version(&number);
  return fmt::format("{}.{}.{}", number / 10000, number % 10000 / 100, number % 100);
}

NcclFunctions make_functions() {
  NcclFunctions table;
  table.version = version_text();
  table.get_unique_id = [](NcclUniqueId* id) -> int {
    return library().get_unique_id(reinterpret_cast<ncclUniqueId*>(id));
  };
  table.init = &init;
  table.async_error = &async_error;
  table.finalize = [](NcclHandle handle) -> int { return library().comm_finalize(comm(handle)); };
  table.destroy = [](NcclHandle handle) -> int { return library().comm_destroy(comm(handle)); };
  table.abort = [](NcclHandle handle) -> int { return library().comm_abort(comm(handle)); };
  table.group_start = []() -> int { return library().group_start(); };
  table.group_end = []() -> int { return library().group_end(); };
  table.send = [](const void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) -> int {
    return library().send(data, bytes, ncclUint8, peer, comm(handle), cuda_stream(stream));
  };
  table.receive = [](void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) -> int {
    return library().receive(data, bytes, ncclUint8, peer, comm(handle), cuda_stream(stream));
  };
  table.all_reduce = [](void* buffer, std::size_t count, DType dtype, NcclHandle handle, NcclStream stream) -> int {
    return library().all_reduce(buffer, buffer, count, data_type(dtype), ncclSum, comm(handle), cuda_stream(stream));
  };
  table.reduce_scatter = [](const void* buffer, void* shard, std::size_t count, DType dtype, NcclHandle handle,
                            NcclStream stream) -> int {
    return library().reduce_scatter(buffer, shard, count, data_type(dtype), ncclSum, comm(handle), cuda_stream(stream));
  };
  table.all_gather = [](const void* shard, void* buffer, std::size_t count, DType dtype, NcclHandle handle,
                        NcclStream stream) -> int {
    return library().all_gather(shard, buffer, count, data_type(dtype), comm(handle), cuda_stream(stream));
  };
  table.broadcast = [](void* buffer, std::size_t bytes, int root, NcclHandle handle, NcclStream stream) -> int {
    return library().broadcast(buffer, buffer, bytes, ncclUint8, root, comm(handle), cuda_stream(stream));
  };
  table.describe = &describe;
  table.stream = &stream_of;
  table.create_event = &create_event;
  table.destroy_event = [](NcclEvent event) { cudaEventDestroy(cuda_event(event)); };
  table.record_event = [](NcclEvent event, NcclStream stream) {
    cudaEventRecord(cuda_event(event), cuda_stream(stream));
  };
  table.has_happened = [](NcclEvent event) { return cudaEventQuery(cuda_event(event)) != cudaErrorNotReady; };
  return table;
}

}  // namespace

Result<const NcclFunctions*> load_nccl() {
  if (!opened_library().ok()) return opened_library().error();
  static const NcclFunctions functions = make_functions();
  return &functions;
}

}  // namespace moecast::cuda
