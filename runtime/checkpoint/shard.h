#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/manifest.h"

namespace moecast {

/// A slice and its bytes in host memory; `file`, `offset` and `checksum` of the slice are not set yet.
struct Payload {
  StoredSlice slice;
  std::span<const std::byte> data;
};

/// The name of a slice in its safetensors file: "blocks.3.experts.5.w1.weight", and
/// "blocks.3.experts.5.w1.weight[0:4096]" for a part of the tensor, so that no reader takes it for the whole.
[[nodiscard]] std::string stored_name(const StoredSlice& slice);
/// The shape of a slice in its file: the parameter's own; whole rows keep the other sizes; else flat.
[[nodiscard]] std::vector<std::int64_t> stored_shape(const StoredSlice& slice);

struct Shard {
  StoredFile file;
  std::vector<StoredSlice> slices;  // with offset and checksum, in file order; `file` is still 0
};

/// Writes and syncs one new safetensors file; its name is not yet durable. Slices with the same name are our own bug.
/// `metadata` is added to the header. When `stop` turns true the file stays unfinished and an error says so.
[[nodiscard]] Result<Shard> write_shard(Environment& environment, const std::filesystem::path& folder,
                                        const std::string& name, std::vector<Payload> payloads,
                                        std::map<std::string, std::string> metadata, const std::atomic<bool>& stop);

}  // namespace moecast
