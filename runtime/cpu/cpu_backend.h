#pragma once

#include <memory>

#include "runtime/backend.h"
#include "runtime/cpu/instructions.h"

namespace moecast {

/// The reference backend: tensors are host memory, F32 or F64, and every call has finished when it returns. One thread
/// for each call; memory beyond the tensors is allocated at the first use of a size only. On one machine the same
/// inputs give the same bits. Uses the best instructions that the CPU has.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend();

/// The same with instructions of the caller's choice, which must be supported.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(CpuInstructions instructions);

}  // namespace moecast
