#include "runtime/checkpoint/source_catalog.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "runtime/checkpoint/checksum.h"

namespace moecast {

SourceCatalog::SourceCatalog(const CheckpointFolder& folder, std::span<const SnapshotMemory* const> memories)
    : folder_(folder) {
  add_folder();
  for (const SnapshotMemory* memory : memories) add_memory(*memory);
}

void SourceCatalog::add_folder() {
  for (const FolderEdit& each : folder_.edits) {
    const std::int64_t version = each.edit.number;
    versions_[version] = {each.edit.state.step, each.edit.history};
    states_[version] = &each.edit.state;
    for (const std::optional<Part>& part : each.parts) {
      if (!part) continue;
      for (const StoredSlice& slice : part->slices) {
        const StoredFile& file = part->files[slice.file];
        if (!folder_.has(file)) continue;
        pieces_.push_back({slice.tensor, slice.component, slice.dtype, slice.elements, version,
                           CheckpointLevel::Storage, sources_.size()});
        sources_.push_back({&file, &slice, {}});
      }
    }
  }
}

void SourceCatalog::add_memory(const SnapshotMemory& memory) {
  for (const auto& [number, version] : memory.unit_versions()) versions_.try_emplace(number, version);
  for (const Snapshot* snapshot : memory.snapshots()) {
    versions_[snapshot->version] = {snapshot->state.step, snapshot->history};
    states_[snapshot->version] = &snapshot->state;
  }
  for (const SnapshotMemory::Held& held : memory.held()) {
    pieces_.push_back({held.slice->tensor, held.slice->component, held.slice->dtype, held.slice->elements, held.version,
                       CheckpointLevel::Memory, sources_.size()});
    sources_.push_back({nullptr, held.slice, held.data});
  }
}

SourceCatalog::Loaded SourceCatalog::load(Environment& environment, const RestorePlan& plan, const Deliver& deliver) {
  std::map<std::size_t, std::vector<const PieceCopy*>> by_piece;
  for (const PieceCopy& copy : plan.copies) by_piece[copy.piece].push_back(&copy);
  Loaded loaded;
  std::set<std::size_t> bad;
  std::vector<std::byte> buffer;
  for (const auto& [index, copies] : by_piece) {
    const Piece& piece = pieces_[index];
    const Source& source = sources_[piece.source];
    std::span<const std::byte> data = source.memory;
    if (source.file != nullptr) {
      if (Status status = read_payload(environment, folder_.path, *source.file, *source.slice, buffer); !status.ok()) {
        loaded.damages.push_back({source.file->name, status.error().message});
        bad.insert(piece.source);
        continue;
      }
      data = buffer;
    }
    (source.file != nullptr ? loaded.storage : loaded.memory) += Bytes(static_cast<std::int64_t>(data.size()));
    const std::int64_t element = bytes_per_element(piece.dtype);
    for (const PieceCopy* copy : copies) {
      const auto first = static_cast<std::size_t>((copy->elements.begin - piece.elements.begin) * element);
      deliver(copy->need, copy->elements.begin,
              data.subspan(first, static_cast<std::size_t>(copy->elements.count() * element)));
    }
  }
  std::erase_if(pieces_, [&](const Piece& piece) { return bad.contains(piece.source); });
  return loaded;
}

Status read_payload(Environment& environment, const std::filesystem::path& folder, const StoredFile& file,
                    const StoredSlice& slice, std::vector<std::byte>& data) {
  data.resize(static_cast<std::size_t>(slice.bytes().count()));
  RETURN_IF_ERROR(environment.read(folder / file.name, slice.offset, data));
  const std::uint32_t found = crc32_of(data);
  if (found == slice.checksum) return {};
  return Error{ErrorKind::RunFailed, (folder / file.name).string(),
               fmt::format("damaged: {}.{} has the checksum {}, its part says {}", slice.tensor,
                           to_text(slice.component), to_hex(found), to_hex(slice.checksum))};
}

}  // namespace moecast
