#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/model_identity.h"

namespace moecast {

/// A file that is not what an edit says, and why.
struct Damage {
  std::string file;
  std::string reason;
};

struct FolderEdit {
  Edit edit;
  std::vector<std::optional<Part>> parts;  // by rank; no value: damaged or missing
  /// Units only: garbage collection has begun to take the non-expert files, or has taken them.
  bool base_collected = false;
};

/// The files with non-expert state of all its parts, in order.
[[nodiscard]] std::vector<StoredFile> base_files(const FolderEdit& edit);

/// Everything in a checkpoint folder that its manifest vouches for. Payloads are known by length only; whoever reads
/// them checks their checksums.
struct CheckpointFolder {
  std::filesystem::path path;
  std::optional<ModelIdentity> model;  // no value: no folder yet, or damaged
  std::vector<FolderEdit> edits;       // intact ones, ascending
  std::map<std::string, Bytes> data;   // payload files that are there, with their length
  /// Edits, parts and payloads that are damaged or missing. What garbage collection has taken is not missing.
  std::vector<Damage> damages;
  std::vector<std::string> unreferred;  // files of ours that no intact edit refers to
  std::vector<std::string> strangers;   // names that are not ours
  std::int64_t last_number = 0;         // the highest edit number in any name

  /// Is the payload there with the right length?
  [[nodiscard]] bool has(const StoredFile& file) const;
};

/// BadInput if there is no such folder, if it holds no checkpoint of ours, or an intact record of a newer format
/// version. Damage is no error.
[[nodiscard]] Result<CheckpointFolder> read_checkpoint_folder(Environment& environment,
                                                              const std::filesystem::path& path);

/// Makes the folder if there is none, and checks that it may take checkpoints of this model: BadInput for a folder of
/// another model (which tensors differ), of a newer format version, with other things in it, or without permission.
/// Existing files are never changed. Called by one rank. Returns the number of the next edit.
[[nodiscard]] Result<std::int64_t> open_checkpoint_folder(Environment& environment, const std::filesystem::path& path,
                                                          const ModelIdentity& model);

/// BadInput if the folder belongs to another model.
[[nodiscard]] Status check_model(const CheckpointFolder& folder, const ModelIdentity& model);

}  // namespace moecast
