#include "runtime/checkpoint/collect.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/checkpoint/file_names.h"
#include "runtime/checkpoint/inspect.h"

namespace moecast {

namespace {

/// What an edit still offers.
struct Content {
  bool intact_base = false;
  std::map<std::string, bool> units;  // false: some file of the edit that holds the unit is damaged or missing
};

class Collector {
 public:
  Collector(const CheckpointFolder& folder, const Retention& retention, const std::vector<std::string>& damaged)
      : folder_(folder), retention_(retention), damaged_(damaged.begin(), damaged.end()) {
    for (const FolderEdit& edit : folder.edits) {
      contents_.push_back(content_of(edit));
      for (const auto& [unit, intact] : contents_.back().units) units_.insert(unit);
    }
  }

  Garbage find(bool idle) {
    keep_versions();
    if (garbage_.kept_versions.empty()) return std::move(garbage_);
    const std::int64_t newest = garbage_.kept_versions.front();
    for (std::size_t i = 0; i < folder_.edits.size() && folder_.edits[i].edit.number < newest; ++i) remove_unneeded(i);
    // Nothing refers to these: temporaries, parts and payloads without an edit.
    for (const std::string& name : folder_.unreferred) {
      const std::optional<FileName> parsed = parse_file_name(name);
      if (parsed && (idle || parsed->edit < newest)) remove(name, parsed->kind == FileKind::Edit);
    }
    garbage_.first_count = first_.size();
    garbage_.removed = std::move(first_);
    garbage_.removed.insert(garbage_.removed.end(), rest_.begin(), rest_.end());
    return std::move(garbage_);
  }

 private:
  Content content_of(const FolderEdit& edit) const {
    Content content;
    bool all_parts = true;
    content.intact_base = !edit.base_collected;
    for (const std::optional<Part>& part : edit.parts) {
      all_parts = all_parts && part.has_value();
      if (!part) continue;
      for (const StoredSlice& slice : part->slices) {
        const StoredFile& file = part->files[slice.file];
        const bool good = folder_.has(file) && !damaged_.contains(file.name);
        if (slice.unit.empty()) {
          content.intact_base = content.intact_base && good;
        } else {
          const auto [unit, is_new] = content.units.try_emplace(slice.unit, good);
          if (!is_new) unit->second = unit->second && good;
        }
      }
    }
    content.intact_base = content.intact_base && all_parts;
    if (!all_parts) {
      for (auto& [unit, intact] : content.units) intact = false;
    }
    return content;
  }

  /// The newest versions that can be restored, and what each of them needs.
  void keep_versions() {
    for (std::size_t i = folder_.edits.size(); i-- > 0;) {
      if (static_cast<std::int64_t>(garbage_.kept_versions.size()) == retention_.versions) return;
      std::set<std::size_t> needed = {i};
      if (!contents_[i].intact_base || !units_at(i, needed)) continue;
      garbage_.kept_versions.push_back(folder_.edits[i].edit.number);
      keep_base_.insert(i);
      needed_.insert(needed.begin(), needed.end());
    }
  }

  /// False if some unit has no intact version.
  bool units_at(std::size_t version, std::set<std::size_t>& needed) const {
    const History& history = folder_.edits[version].edit.history;
    for (const std::string& unit : units_) {
      std::int64_t intact = 0;
      for (std::size_t i = version + 1; i-- > 0 && intact < retention_.unit_copies;) {
        if (i != version && !contains(history, folder_.edits[i].edit.number)) continue;
        const auto found = contents_[i].units.find(unit);
        if (found == contents_[i].units.end()) continue;
        needed.insert(i);
        if (found->second) ++intact;
      }
      if (intact == 0) return false;
    }
    return true;
  }

  void remove_unneeded(std::size_t i) {
    const FolderEdit& edit = folder_.edits[i];
    if (needed_.contains(i)) {
      if (keep_base_.contains(i)) return;
      const std::vector<StoredFile> base = base_files(edit);
      for (std::size_t file = 0; file < base.size(); ++file) remove(base[file].name, file == 0);
      return;
    }
    remove(edit_file_name(edit.edit.number), true);
    for (std::size_t rank = 0; rank < edit.parts.size(); ++rank) {
      remove(part_file_name(edit.edit.number, static_cast<std::int32_t>(rank)), false);
      if (!edit.parts[rank]) continue;
      for (const StoredFile& file : edit.parts[rank]->files) remove(file.name, false);
    }
  }

  void remove(const std::string& name, bool first) {
    const auto size = folder_.data.find(name);
    const std::optional<FileName> parsed = parse_file_name(name);
    if (parsed && parsed->kind == FileKind::Data && size == folder_.data.end()) return;  // gone already
    (first ? first_ : rest_).push_back(name);
    if (size != folder_.data.end()) garbage_.bytes += size->second;
  }

  const CheckpointFolder& folder_;
  const Retention& retention_;
  std::set<std::string> damaged_;
  std::vector<Content> contents_;  // by edit
  std::set<std::string> units_;    // of all edits
  std::set<std::size_t> needed_;   // edits
  std::set<std::size_t> keep_base_;
  std::vector<std::string> first_, rest_;
  Garbage garbage_;
};

}  // namespace

Garbage find_garbage(const CheckpointFolder& folder, const Retention& retention, bool idle,
                     const std::vector<std::string>& damaged) {
  ASSERT(retention.versions >= 1 && retention.unit_copies >= 1);
  return Collector(folder, retention, damaged).find(idle);
}

Result<Garbage> collect_garbage(Environment& environment, const std::filesystem::path& path, const Retention& retention,
                                const CollectOptions& options) {
  const Result<CheckpointFolder> folder = read_checkpoint_folder(environment, path);
  if (!folder.ok()) return folder.error();
  std::vector<std::string> damaged;
  if (options.verify) {
    for (const Damage& damage : verify_payloads(environment, folder.value()).damages) damaged.push_back(damage.file);
  }
  Garbage garbage = find_garbage(folder.value(), retention, options.idle, damaged);
  if (options.dry_run || garbage.removed.empty()) return garbage;
  for (std::size_t i = 0; i < garbage.removed.size(); ++i) {
    if (i == garbage.first_count) RETURN_IF_ERROR(environment.sync_folder(path));
    RETURN_IF_ERROR(environment.remove(path / garbage.removed[i]));
  }
  RETURN_IF_ERROR(environment.sync_folder(path));
  return garbage;
}

}  // namespace moecast
