#include "runtime/checkpoint/inspect.h"

#include <algorithm>
#include <set>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/collect.h"
#include "runtime/checkpoint/source_catalog.h"

namespace moecast {

namespace {

/// Everything that the folder has ever stored, as needs: what a complete restore would ask for.
std::vector<NeededSlice> stored_needs(const CheckpointFolder& folder) {
  std::map<std::tuple<std::string, Component>, NeededSlice> needs;
  for (const FolderEdit& edit : folder.edits) {
    for (const std::optional<Part>& part : edit.parts) {
      if (!part) continue;
      for (const StoredSlice& slice : part->slices) {
        std::int64_t count = 1;
        for (const std::int64_t size : slice.shape) count *= size;
        needs[{slice.tensor, slice.component}] = {slice.tensor, slice.component, slice.dtype, {0, count}, slice.unit};
      }
    }
  }
  std::vector<NeededSlice> out;
  for (auto& [key, need] : needs) out.push_back(std::move(need));
  return out;
}

EditSummary summary_of(const FolderEdit& edit) {
  EditSummary summary;
  summary.edit = edit.edit;
  summary.base_collected = edit.base_collected;
  std::set<std::string> units;
  for (const std::optional<Part>& part : edit.parts) {
    if (!part) continue;
    summary.file_count += static_cast<std::int64_t>(part->files.size());
    for (const StoredSlice& slice : part->slices) {
      (slice.unit.empty() ? summary.base : summary.units) += slice.bytes();
      if (!slice.unit.empty()) units.insert(slice.unit);
    }
  }
  summary.unit_count = static_cast<std::int64_t>(units.size());
  return summary;
}

Inspection inspection_of(const CheckpointFolder& folder, const std::set<std::string>& damaged) {
  Inspection out;
  if (folder.model) {
    out.model = folder.model->name;
    out.fingerprint = folder.model->fingerprint();
  }
  out.damages = folder.damages;
  out.unreferred = folder.unreferred;
  out.strangers = folder.strangers;
  for (const auto& [name, size] : folder.data) out.size += size;
  CheckpointFolder sound = folder;
  std::erase_if(sound.data, [&](const auto& file) { return damaged.contains(file.first); });
  const SourceCatalog catalog(sound, {});
  const std::vector<NeededSlice> needs = stored_needs(sound);
  RestoreBounds bounds;
  std::map<std::int64_t, RestorePlan> plans;
  while (true) {
    Result<RestorePlan> plan = plan_restore(needs, catalog.pieces(), catalog.versions(), bounds);
    if (!plan.ok()) break;
    bounds.version = plan->version - 1;
    plans.emplace(plan->version, std::move(plan).value());
  }
  for (const FolderEdit& edit : folder.edits) {
    out.edits.push_back(summary_of(edit));
    out.edits.back().restorable = plans.contains(edit.edit.number);
  }
  if (plans.empty()) return out;
  const auto& [newest, plan] = *plans.rbegin();
  out.newest = newest;
  for (const auto& [unit, version] : plan.units) {
    out.unit_age[unit] = catalog.versions().at(newest).step - catalog.versions().at(version).step;
  }
  return out;
}

void check_file(Environment& environment, const CheckpointFolder& folder, const Part& part, std::size_t index,
                PayloadCheck& check) {
  const StoredFile& file = part.files[index];
  std::vector<std::byte> data(static_cast<std::size_t>(file.header.count()));
  Status status = environment.read(folder.path / file.name, Bytes(0), data);
  if (status.ok() && crc32_of(data) != file.header_checksum) {
    status = Error{ErrorKind::RunFailed, file.name, "damaged: the header has another checksum"};
  }
  for (const StoredSlice& slice : part.slices) {
    if (slice.file != index || !status.ok()) continue;
    status = read_payload(environment, folder.path, file, slice, data);
  }
  ++check.files;
  check.bytes += file.size;
  if (!status.ok()) check.damages.push_back({file.name, status.error().message});
}

}  // namespace

bool Verification::good() const {
  return inspection.damages.empty() &&
         (inspection.edits.empty() || inspection.newest == inspection.edits.back().edit.number);
}

PayloadCheck verify_payloads(Environment& environment, const CheckpointFolder& folder) {
  PayloadCheck check;
  for (const FolderEdit& edit : folder.edits) {
    for (const std::optional<Part>& part : edit.parts) {
      for (std::size_t file = 0; part && file < part->files.size(); ++file) {
        if (folder.has(part->files[file])) check_file(environment, folder, *part, file, check);
      }
    }
  }
  return check;
}

Result<Inspection> inspect_checkpoints(Environment& environment, const std::filesystem::path& path) {
  const Result<CheckpointFolder> folder = read_checkpoint_folder(environment, path);
  if (!folder.ok()) return folder.error();
  return inspection_of(folder.value(), {});
}

Result<Verification> verify_checkpoints(Environment& environment, const std::filesystem::path& path) {
  const Result<CheckpointFolder> folder = read_checkpoint_folder(environment, path);
  if (!folder.ok()) return folder.error();
  const PayloadCheck check = verify_payloads(environment, folder.value());
  std::set<std::string> damaged;
  for (const Damage& damage : check.damages) damaged.insert(damage.file);
  Verification out;
  out.inspection = inspection_of(folder.value(), damaged);
  out.inspection.damages.insert(out.inspection.damages.end(), check.damages.begin(), check.damages.end());
  out.checked_files = check.files;
  out.checked = check.bytes;
  return out;
}

}  // namespace moecast
