#include "runtime/checkpoint/restore.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "runtime/checkpoint/shard.h"

namespace moecast {

namespace {

/// Agreed by all ranks: one version, and one version of each unit. Bounds only ever fall, so it ends.
class Agreement {
 public:
  Agreement(RankAgreement ranks, const std::vector<std::string>& units) : ranks_(ranks), units_(units) {}

  /// The plan of this rank at the versions that all ranks can restore.
  Result<RestorePlan> plan(const std::vector<NeededSlice>& needs, const SourceCatalog& catalog, RestoreBounds& bounds) {
    while (true) {
      Result<RestorePlan> mine = plan_restore(needs, catalog.pieces(), catalog.versions(), bounds);
      const std::int64_t version = mine.ok() ? mine->version : kNone;
      const Result<std::int64_t> agreed = ranks_.smallest(version);
      if (!agreed.ok()) return agreed.error();
      if (agreed.value() == kNone) {
        return mine.ok() ? Error{ErrorKind::RunFailed, "", "another rank can restore no checkpoint"} : mine.error();
      }
      const Result<bool> same_units = agree_on_units(mine, agreed.value(), bounds);
      if (!same_units.ok()) return same_units.error();
      if (same_units.value()) return mine;
    }
  }

  /// True if it is true on every rank.
  Result<bool> all(bool mine) {
    const Result<std::int64_t> agreed = ranks_.smallest(mine ? 1 : 0);
    if (!agreed.ok()) return agreed.error();
    return agreed.value() == 1;
  }

 private:
  static constexpr std::int64_t kNone = -1;

  /// Lowers the bounds to what all ranks can do; false if some rank has to plan again.
  Result<bool> agree_on_units(const Result<RestorePlan>& mine, std::int64_t version, RestoreBounds& bounds) {
    bounds.version = version;
    std::vector<std::int64_t> wanted;
    for (const std::string& unit : units_) {
      const auto found = mine->units.find(unit);
      wanted.push_back(found == mine->units.end() ? std::numeric_limits<std::int64_t>::max() : found->second);
    }
    const Result<std::vector<std::int64_t>> agreed = ranks_.smallest(wanted);
    if (!agreed.ok()) return agreed.error();
    bool same = mine->version == version;
    for (std::size_t i = 0; i < units_.size(); ++i) {
      const auto found = mine->units.find(units_[i]);
      if (found == mine->units.end() || found->second == agreed.value()[i]) continue;
      bounds.units[units_[i]] = agreed.value()[i];
      same = false;
    }
    return all(same);
  }

  RankAgreement ranks_;
  const std::vector<std::string>& units_;
};

void report_versions(const std::vector<NeededSlice>& needs, const SourceCatalog& catalog, const RestorePlan& plan,
                     RestoreReport& report) {
  report.version = plan.version;
  report.state = catalog.state(plan.version);
  report.history = extended(catalog.versions().at(plan.version).history, plan.version, plan.version);
  for (const auto& [unit, version] : plan.units) {
    const std::int64_t step = version == 0 ? 0 : catalog.versions().at(version).step;
    report.units.push_back({unit, version, step, report.state.step - step});
    if (const TrainingState* state = catalog.find_state(version)) report.unit_states.try_emplace(version, *state);
  }
  std::set<std::string> from_memory;
  for (const PieceCopy& copy : plan.copies) {
    if (catalog.pieces()[copy.piece].level == CheckpointLevel::Memory) from_memory.insert(needs[copy.need].unit);
  }
  for (RestoredUnit& unit : report.units) {
    if (from_memory.contains(unit.unit)) unit.level = CheckpointLevel::Memory;
  }
}

/// Plans, agrees and loads until everything that was read was intact on every rank.
Result<RestoreReport> restore_all(Environment& environment, const std::vector<NeededSlice>& needs,
                                  SourceCatalog& catalog, RestoreBounds bounds, Agreement agreement,
                                  const SourceCatalog::Deliver& deliver) {
  RestoreReport report;
  while (true) {
    const Result<RestorePlan> plan = agreement.plan(needs, catalog, bounds);
    if (!plan.ok()) return plan.error();
    const SourceCatalog::Loaded loaded = catalog.load(environment, plan.value(), deliver);
    report.damages.insert(report.damages.end(), loaded.damages.begin(), loaded.damages.end());
    report.from_memory += loaded.memory;
    report.from_storage += loaded.storage;
    const Result<bool> intact = agreement.all(loaded.damages.empty());
    if (!intact.ok()) return intact.error();
    if (!intact.value()) continue;
    report_versions(needs, catalog, plan.value(), report);
    return report;
  }
}

std::vector<NeededSlice> needs_of(const std::vector<RestoreTarget>& targets) {
  std::vector<NeededSlice> needs;
  for (const RestoreTarget& target : targets) {
    ASSERT(target.destination.element_count() == target.elements.count() || target.elements.count() == 0, "{}",
           target.tensor);
    needs.push_back({target.tensor, target.component, target.destination.dtype, target.elements, target.unit});
  }
  return needs;
}

/// All ranks read the folder; if one cannot, none goes on.
Result<CheckpointFolder> read_together(Environment& environment, const RestoreOptions& options, Agreement& agreement) {
  Result<CheckpointFolder> folder = read_checkpoint_folder(environment, options.folder);
  if (folder.ok()) {
    if (const Status model = check_model(folder.value(), options.model); !model.ok()) folder = model.error();
  }
  const Result<bool> good = agreement.all(folder.ok());
  if (!good.ok()) return good.error();
  if (good.value() || !folder.ok()) return folder;
  return Error{ErrorKind::RunFailed, options.folder.string(), "another rank cannot read the checkpoint folder"};
}

std::vector<NeededSlice> whole_tensors(const CheckpointFolder& folder, const std::vector<Component>& components,
                                       std::map<std::string, std::vector<std::int64_t>>& shapes) {
  std::map<std::string, NeededSlice> needs;
  for (const FolderEdit& edit : folder.edits) {
    for (const std::optional<Part>& part : edit.parts) {
      for (std::size_t i = 0; part && i < part->slices.size(); ++i) {
        StoredSlice slice = part->slices[i];
        if (std::ranges::find(components, slice.component) == components.end()) continue;
        std::int64_t count = 1;
        for (const std::int64_t size : slice.shape) count *= size;
        slice.elements = {0, count};
        shapes[stored_name(slice)] = slice.shape;
        needs[stored_name(slice)] = {slice.tensor, slice.component, slice.dtype, slice.elements, slice.unit};
      }
    }
  }
  std::vector<NeededSlice> out;
  for (auto& [name, need] : needs) out.push_back(std::move(need));
  return out;
}

}  // namespace

Result<RestoreReport> restore(Backend& backend, Environment& environment, const Clock& clock,
                              const std::vector<RestoreTarget>& targets, const RestoreOptions& options) {
  const Instant begin = clock.now();
  Agreement agreement(RankAgreement(options.communicator), options.units);
  const Result<CheckpointFolder> folder = read_together(environment, options, agreement);
  if (!folder.ok()) return folder.error();
  SourceCatalog catalog(folder.value(), options.memories);
  const auto upload = [&](std::size_t need, std::int64_t element, std::span<const std::byte> data) {
    const RestoreTarget& target = targets[need];
    const std::int64_t size = bytes_per_element(target.destination.dtype);
    void* destination = static_cast<std::byte*>(target.destination.data) + (element - target.elements.begin) * size;
    const std::int64_t count = static_cast<std::int64_t>(data.size()) / size;
    backend.upload(Lane::CopyIn, Tensor(destination, target.destination.dtype, {count}), data.data());
    backend.synchronize(Lane::CopyIn);  // the host buffer is used again for the next payload
  };
  Result<RestoreReport> report =
      restore_all(environment, needs_of(targets), catalog, options.bounds, agreement, upload);
  if (!report.ok()) {
    Error error = report.error();
    if (error.place.empty()) error.place = options.folder.string();
    return error;
  }
  RETURN_IF_ERROR(backend.check());
  report->duration = clock.now() - begin;
  return report;
}

Result<RestoreReport> export_checkpoint(Environment& environment, const std::filesystem::path& path,
                                        const RestoreBounds& bounds, const std::vector<Component>& components,
                                        const std::filesystem::path& file) {
  const Result<CheckpointFolder> folder = read_checkpoint_folder(environment, path);
  if (!folder.ok()) return folder.error();
  SourceCatalog catalog(folder.value(), {});
  std::map<std::string, std::vector<std::int64_t>> shapes;
  const std::vector<NeededSlice> needs = whole_tensors(folder.value(), components, shapes);
  std::vector<std::vector<std::byte>> tensors;
  for (const NeededSlice& need : needs) {
    tensors.emplace_back(static_cast<std::size_t>(need.elements.count() * bytes_per_element(need.dtype)));
  }
  const auto keep = [&](std::size_t need, std::int64_t element, std::span<const std::byte> data) {
    std::memcpy(tensors[need].data() + element * bytes_per_element(needs[need].dtype), data.data(), data.size());
  };
  Result<RestoreReport> report =
      restore_all(environment, needs, catalog, bounds, Agreement(RankAgreement(nullptr), {}), keep);
  if (!report.ok()) return report;
  std::vector<Payload> payloads;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    StoredSlice slice = {needs[i].tensor, needs[i].component, needs[i].dtype, {}, needs[i].elements, needs[i].unit};
    slice.shape = {needs[i].elements.count()};
    slice.shape = shapes.at(stored_name(slice));
    payloads.push_back({slice, tensors[i]});
  }
  const std::atomic<bool> stop = false;
  const Result<Shard> shard =
      write_shard(environment, file.parent_path(), file.filename().string(), std::move(payloads),
                  {{"format", "pt"}, {"moecast.step", std::to_string(report->state.step)}}, stop);
  if (!shard.ok()) return shard.error();
  RETURN_IF_ERROR(environment.sync_folder(file.has_parent_path() ? file.parent_path() : std::filesystem::path(".")));
  return report;
}

}  // namespace moecast
