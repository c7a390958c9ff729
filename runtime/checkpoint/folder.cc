#include "runtime/checkpoint/folder.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/file_names.h"

namespace moecast {

namespace {

/// Notes damage; passes a newer format on.
template <typename T>
Status note(const Result<T>& result, const std::string& file, std::vector<Damage>& damages) {
  if (result.ok()) return {};
  if (result.error().kind == ErrorKind::BadInput && !result.error().message.starts_with(kMissing)) {
    return result.error();
  }
  damages.push_back({file, result.error().message});
  return {};
}

class FolderReader {
 public:
  FolderReader(Environment& environment, const std::filesystem::path& path) : environment_(environment) {
    folder_.path = path;
  }

  Result<CheckpointFolder> read() {
    Result<std::optional<std::vector<std::string>>> names = environment_.list(folder_.path);
    if (!names.ok()) return names.error();
    if (!names.value()) return environment_error(folder_.path, kMissing);
    names_ = std::move(*names.value());
    std::vector<std::int64_t> edits;
    for (const std::string& name : names_) RETURN_IF_ERROR(take_name(name, edits));
    std::ranges::sort(edits);
    for (const std::int64_t number : edits) RETURN_IF_ERROR(read_edit(number));
    find_unreferred();
    find_collected();
    return std::move(folder_);
  }

 private:
  Status take_name(const std::string& name, std::vector<std::int64_t>& edits) {
    const std::optional<FileName> parsed = parse_file_name(name);
    if (!parsed) {
      folder_.strangers.push_back(name);
      return {};
    }
    folder_.last_number = std::max(folder_.last_number, parsed->edit);
    if (parsed->kind == FileKind::Edit) edits.push_back(parsed->edit);
    if (parsed->kind == FileKind::Model) return read_model();
    if (parsed->kind == FileKind::Data) {
      const Result<std::optional<Bytes>> size = environment_.size(folder_.path / name);
      if (!size.ok()) return size.error();
      if (size.value()) folder_.data[name] = *size.value();
    }
    return {};
  }

  Status read_model() {
    const std::string name(kModelFileName);
    const Result<std::string> text = read_all(environment_, folder_.path / name);
    if (!text.ok()) return note(text, name, folder_.damages);
    const Result<ModelIdentity> model = parse_model(text.value(), (folder_.path / name).string());
    RETURN_IF_ERROR(note(model, name, folder_.damages));
    if (model.ok()) folder_.model = model.value();
    return {};
  }

  Status read_edit(std::int64_t number) {
    const std::string name = edit_file_name(number);
    const Result<std::string> text = read_all(environment_, folder_.path / name);
    if (!text.ok()) return note(text, name, folder_.damages);
    Result<Edit> edit = parse_edit(text.value(), (folder_.path / name).string());
    if (edit.ok() && edit->number != number) edit = Error{ErrorKind::RunFailed, name, "damaged: another edit's number"};
    RETURN_IF_ERROR(note(edit, name, folder_.damages));
    if (!edit.ok()) return {};
    FolderEdit read = {std::move(edit).value(), {}};
    referred_.insert(name);
    for (std::size_t rank = 0; rank < read.edit.parts.size(); ++rank) RETURN_IF_ERROR(read_part(read, rank));
    folder_.edits.push_back(std::move(read));
    return {};
  }

  Status read_part(FolderEdit& edit, std::size_t rank) {
    const std::string name = part_file_name(edit.edit.number, static_cast<std::int32_t>(rank));
    referred_.insert(name);
    edit.parts.emplace_back();
    if (!std::ranges::binary_search(names_, name)) {
      folder_.damages.push_back({name, "missing"});
      return {};
    }
    const Result<std::string> text = read_all(environment_, folder_.path / name);
    if (!text.ok()) return note(text, name, folder_.damages);
    const PartReference& reference = edit.edit.parts[rank];
    if (static_cast<std::int64_t>(text->size()) != reference.size.count() ||
        crc32_of(bytes_of(text.value())) != reference.checksum) {
      folder_.damages.push_back({name, "damaged: not the part that its edit refers to"});
      return {};
    }
    const Result<Part> part = parse_part(text.value(), (folder_.path / name).string());
    RETURN_IF_ERROR(note(part, name, folder_.damages));
    if (!part.ok()) return {};
    edit.parts.back() = part.value();
    for (const StoredFile& file : part->files) {
      referred_.insert(file.name);
      if (folder_.has(file)) continue;
      folder_.damages.push_back(
          {file.name, folder_.data.contains(file.name) ? "another length than its part says" : "missing"});
    }
    return {};
  }

  /// Garbage collection takes an edit's first non-expert file first, and the others after a sync: where it is gone, the
  /// others are garbage or gone, too. The newest edit is never collected from.
  void find_collected() {
    for (std::size_t i = 0; i + 1 < folder_.edits.size(); ++i) {
      const std::vector<StoredFile> base = base_files(folder_.edits[i]);
      if (base.empty() || folder_.data.contains(base.front().name)) continue;
      folder_.edits[i].base_collected = true;
      std::erase_if(folder_.damages, [&](const Damage& damage) {
        return std::ranges::any_of(base, [&](const StoredFile& file) {
          return file.name == damage.file && !folder_.data.contains(file.name);
        });
      });
    }
  }

  void find_unreferred() {
    for (const std::string& name : names_) {
      const std::optional<FileName> parsed = parse_file_name(name);
      if (parsed && parsed->kind != FileKind::Model && !referred_.contains(name)) folder_.unreferred.push_back(name);
    }
  }

  Environment& environment_;
  CheckpointFolder folder_;
  std::vector<std::string> names_;
  std::set<std::string> referred_;
};

}  // namespace

std::vector<StoredFile> base_files(const FolderEdit& edit) {
  std::vector<StoredFile> files;
  for (const std::optional<Part>& part : edit.parts) {
    for (std::size_t file = 0; part && file < part->files.size(); ++file) {
      if (std::ranges::any_of(part->slices,
                              [&](const StoredSlice& slice) { return slice.file == file && slice.unit.empty(); })) {
        files.push_back(part->files[file]);
      }
    }
  }
  return files;
}

bool CheckpointFolder::has(const StoredFile& file) const {
  const auto found = data.find(file.name);
  return found != data.end() && found->second == file.size;
}

Result<CheckpointFolder> read_checkpoint_folder(Environment& environment, const std::filesystem::path& path) {
  return FolderReader(environment, path).read();
}

Status check_model(const CheckpointFolder& folder, const ModelIdentity& model) {
  const auto other = [&](std::string what) {
    return Error{ErrorKind::BadInput, folder.path.string(), "holds checkpoints of another model: " + std::move(what)};
  };
  if (folder.model) {
    const std::string differences = tensor_differences(model, *folder.model);
    if (!differences.empty()) return other(differences);
  }
  for (const FolderEdit& each : folder.edits) {
    if (each.edit.fingerprint != model.fingerprint()) {
      return other(fmt::format("edit {} has the fingerprint {}, the model {}", each.edit.number, each.edit.fingerprint,
                               model.fingerprint()));
    }
  }
  return {};
}

Result<std::int64_t> open_checkpoint_folder(Environment& environment, const std::filesystem::path& path,
                                            const ModelIdentity& model) {
  RETURN_IF_ERROR(environment.create_folders(path));
  const Result<CheckpointFolder> folder = read_checkpoint_folder(environment, path);
  if (!folder.ok()) return folder.error();
  RETURN_IF_ERROR(check_model(folder.value(), model));
  const bool has_model = folder->model || std::ranges::any_of(folder->damages, [](const Damage& damage) {
                           return damage.file == kModelFileName;
                         });
  if (!has_model && folder->edits.empty() && !folder->strangers.empty()) {
    return Error{ErrorKind::BadInput, path.string(),
                 fmt::format("is not a checkpoint folder, and not empty: it holds {}", folder->strangers.front())};
  }
  if (!has_model) {
    const std::filesystem::path temporary = path / temporary_name(kModelFileName);
    RETURN_IF_ERROR(environment.remove(temporary));  // of an earlier start that was cut off
    RETURN_IF_ERROR(write_synced(environment, temporary, to_text(model)));
    RETURN_IF_ERROR(environment.rename(temporary, path / kModelFileName));
    RETURN_IF_ERROR(environment.sync_folder(path));
  }
  return folder->last_number + 1;
}

}  // namespace moecast
