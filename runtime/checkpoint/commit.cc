#include "runtime/checkpoint/commit.h"

#include "runtime/checkpoint/checksum.h"
#include "runtime/checkpoint/file_names.h"

namespace moecast {

Result<PartReference> write_part(Environment& environment, const std::filesystem::path& folder, const Part& part) {
  const std::string text = to_text(part);
  RETURN_IF_ERROR(write_synced(environment, folder / part_file_name(part.edit, part.rank), text));
  RETURN_IF_ERROR(environment.sync_folder(folder));
  return PartReference{Bytes(static_cast<std::int64_t>(text.size())), crc32_of(bytes_of(text))};
}

CommitResult commit_edit(Environment& environment, const std::filesystem::path& folder, const Edit& edit) {
  const std::filesystem::path final_name = folder / edit_file_name(edit.number);
  const std::filesystem::path temporary = folder / temporary_name(edit_file_name(edit.number));
  if (const Status written = write_synced(environment, temporary, to_text(edit)); !written.ok()) {
    return {CommitOutcome::NotCommitted, written.error()};
  }
  if (const Status renamed = environment.rename(temporary, final_name); !renamed.ok()) {
    return {CommitOutcome::Unknown, renamed.error()};
  }
  if (const Status synced = environment.sync_folder(folder); !synced.ok()) {
    return {CommitOutcome::Unknown, synced.error()};
  }
  return {CommitOutcome::Committed, std::nullopt};
}

}  // namespace moecast
