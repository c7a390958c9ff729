#pragma once

#include <filesystem>
#include <optional>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/manifest.h"

namespace moecast {

/// A rank's last step before it reports: the part's file, then the folder, which makes the names of the part and of all
/// payloads durable. The payloads are written and synced already.
[[nodiscard]] Result<PartReference> write_part(Environment& environment, const std::filesystem::path& folder,
                                               const Part& part);

enum class CommitOutcome {
  Committed,     // durable
  NotCommitted,  // the edit does not exist; its payloads may go
  Unknown,       // it failed between rename and the folder's sync: after a crash it may exist, so its payloads stay
};
struct CommitResult {
  CommitOutcome outcome = CommitOutcome::Committed;
  std::optional<Error> error;  // unless committed
};

/// The commit point: temporary file, sync, rename, sync of the folder. Called by one rank after every rank's write_part
/// has succeeded.
[[nodiscard]] CommitResult commit_edit(Environment& environment, const std::filesystem::path& folder, const Edit& edit);

}  // namespace moecast
