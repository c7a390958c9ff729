#include "runtime/checkpoint/shard.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/safetensors.h"

namespace moecast {

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;  // stays in the cache between checksum and copy

/// Appends `data` and returns its checksum.
Result<std::uint32_t> append_counted(OutputFile& file, std::span<const std::byte> data, const std::string& name,
                                     const std::atomic<bool>& stop) {
  std::uint32_t checksum = 0;
  while (!data.empty()) {
    if (stop.load(std::memory_order_relaxed)) return Error{ErrorKind::RunFailed, name, "the write was given up"};
    const std::span<const std::byte> chunk = data.first(std::min(kChunk, data.size()));
    checksum = crc32_of(chunk, checksum);
    RETURN_IF_ERROR(file.append(chunk));
    data = data.subspan(chunk.size());
  }
  return checksum;
}

std::string slice_metadata(const StoredSlice& slice) {
  const nlohmann::ordered_json json = {{"tensor", slice.tensor + "." + std::string(to_text(slice.component))},
                                       {"shape", slice.shape},
                                       {"begin", slice.elements.begin},
                                       {"end", slice.elements.end}};
  return json.dump();
}

}  // namespace

std::string stored_name(const StoredSlice& slice) {
  const std::string name = fmt::format("{}.{}", slice.tensor, to_text(slice.component));
  return slice.whole() ? name : fmt::format("{}[{}:{}]", name, slice.elements.begin, slice.elements.end);
}

std::vector<std::int64_t> stored_shape(const StoredSlice& slice) {
  if (slice.whole() || slice.shape.empty()) return slice.shape;
  std::int64_t row = 1;
  for (std::size_t i = 1; i < slice.shape.size(); ++i) row *= slice.shape[i];
  if (row == 0 || slice.elements.begin % row != 0 || slice.elements.end % row != 0) return {slice.elements.count()};
  std::vector<std::int64_t> shape = slice.shape;
  shape[0] = slice.elements.count() / row;
  return shape;
}

Result<Shard> write_shard(Environment& environment, const std::filesystem::path& folder, const std::string& name,
                          std::vector<Payload> payloads, std::map<std::string, std::string> metadata,
                          const std::atomic<bool>& stop) {
  std::vector<SafetensorsEntry> entries;
  std::unordered_map<std::string, const Payload*> by_name;
  for (const Payload& payload : payloads) {
    const StoredSlice& slice = payload.slice;
    ASSERT(static_cast<std::int64_t>(payload.data.size()) == slice.bytes().count(), "{}", slice.tensor);
    entries.push_back({stored_name(slice), std::string(safetensors_name(slice.dtype)), stored_shape(slice)});
    const bool is_new = by_name.emplace(entries.back().name, &payload).second;
    ASSERT(is_new, "{} twice", entries.back().name);
    if (!slice.whole()) metadata[entries.back().name] = slice_metadata(slice);
  }
  sort_for_file(entries);
  const std::string header = make_header(entries, metadata);

  Result<std::unique_ptr<OutputFile>> created = environment.create(folder / name);
  if (!created.ok()) return created.error();
  OutputFile& file = **created;
  RETURN_IF_ERROR(file.append(bytes_of(header)));
  Shard shard;
  shard.file = {name, Bytes(static_cast<std::int64_t>(header.size())), Bytes(static_cast<std::int64_t>(header.size())),
                crc32_of(bytes_of(header))};
  for (const SafetensorsEntry& entry : entries) {
    const Payload& payload = *by_name.at(entry.name);
    const Result<std::uint32_t> checksum = append_counted(file, payload.data, name, stop);
    if (!checksum.ok()) return checksum.error();
    shard.slices.push_back(payload.slice);
    shard.slices.back().offset = shard.file.size;
    shard.slices.back().checksum = checksum.value();
    shard.file.size += payload.slice.bytes();
  }
  RETURN_IF_ERROR(file.sync());
  return shard;
}

}  // namespace moecast
