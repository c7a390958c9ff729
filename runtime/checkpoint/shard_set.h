#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/shard.h"

namespace moecast {

/// Everything that one rank writes for one edit.
struct ShardSetRequest {
  std::int64_t edit = 0;
  std::int32_t rank = 0;
  std::int64_t step = 0;
  std::vector<Payload> payloads;
  Bytes shard_size{1 << 30};
  int writer_count = 1;
};

/// Writes and syncs the rank's files: non-expert state and units apart, each cut at about `shard_size`, on
/// `writer_count` threads. Their names are not yet durable (write_part does that). After an error some files may be
/// there.
[[nodiscard]] Result<Part> write_shard_set(Environment& environment, const std::filesystem::path& folder,
                                           ShardSetRequest request, const std::atomic<bool>& stop);

}  // namespace moecast
