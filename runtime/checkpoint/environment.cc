#include "runtime/checkpoint/environment.h"

#include <fmt/format.h>

namespace moecast {

Error environment_error(const std::filesystem::path& path, std::string_view message, std::string_view detail) {
  const bool users = message == kNoPermission || message == kExists || message == kMissing;
  return Error{users ? ErrorKind::BadInput : ErrorKind::RunFailed, path.string(),
               detail.empty() ? std::string(message) : fmt::format("{}: {}", message, detail)};
}

Result<std::string> read_all(Environment& environment, const std::filesystem::path& path) {
  const Result<std::optional<Bytes>> size = environment.size(path);
  if (!size.ok()) return size.error();
  if (!size.value()) return environment_error(path, kMissing);
  std::string content(static_cast<std::size_t>(size.value()->count()), '\0');
  RETURN_IF_ERROR(environment.read(path, Bytes(0), std::as_writable_bytes(std::span<char>(content))));
  return content;
}

Status write_synced(Environment& environment, const std::filesystem::path& path, std::string_view content) {
  Result<std::unique_ptr<OutputFile>> file = environment.create(path);
  if (!file.ok()) return file.error();
  RETURN_IF_ERROR(file.value()->append(bytes_of(content)));
  return file.value()->sync();
}

}  // namespace moecast
