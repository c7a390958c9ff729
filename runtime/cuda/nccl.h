#pragma once

#include "base/result.h"
#include "runtime/comm/nccl_functions.h"

namespace moecast::cuda {

/// The table of NCCL's functions, from libnccl.so.2, which is opened at the first call; its streams are those of
/// CudaBackend. Unavailable, with the loader's reason, if there is none.
[[nodiscard]] Result<const NcclFunctions*> load_nccl();

}  // namespace moecast::cuda
