#include "runtime/checkpoint/posix_environment.h"

#include <algorithm>
#include <cerrno>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/checkpoint/posix_output_file.h"

namespace moecast {

namespace {

namespace fs = std::filesystem;

/// Closes at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (ok()) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] bool ok() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

class PosixEnvironment final : public Environment {
 public:
  Status create_folders(const fs::path& folder) override {
    struct stat info = {};
    if (::stat(folder.c_str(), &info) == 0) {
      if (S_ISDIR(info.st_mode)) return {};
      return environment_error(folder, kExists, "and is not a folder");
    }
    const fs::path parent = parent_of(folder);
    if (parent != folder) RETURN_IF_ERROR(create_folders(parent));
    if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return posix_error(folder, "cannot create the folder");
    return sync_folder(parent);
  }

  Result<std::unique_ptr<OutputFile>> create(const fs::path& path) override {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0) return posix_error(path, "cannot create");
    return std::unique_ptr<OutputFile>(std::make_unique<PosixOutputFile>(descriptor, path));
  }

  Status rename(const fs::path& from, const fs::path& to) override {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EINVAL && errno != ENOSYS) return posix_error(to, "cannot rename to this name");
    // File systems without RENAME_NOREPLACE: a link refuses a name that is taken, too.
    if (::link(from.c_str(), to.c_str()) != 0) return posix_error(to, "cannot rename to this name");
    if (::unlink(from.c_str()) != 0) return posix_error(from, "cannot remove the old name");
    return {};
  }

  Status sync_folder(const fs::path& folder) override {
    const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.ok()) return posix_error(folder, "cannot open the folder");
    if (::fsync(directory.get()) != 0) return posix_error(folder, "cannot sync the folder");
    return {};
  }

  Status remove(const fs::path& path) override {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return posix_error(path, "cannot remove");
    return {};
  }

  Result<std::optional<std::vector<std::string>>> list(const fs::path& folder) override {
    DIR* directory = ::opendir(folder.c_str());
    if (directory == nullptr) {
      if (errno == ENOENT) return std::optional<std::vector<std::string>>();
      return posix_error(folder, "cannot list");
    }
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int code = errno;
    ::closedir(directory);
    errno = code;
    if (code != 0) return posix_error(folder, "cannot list");
    std::ranges::sort(names);
    return std::optional(std::move(names));
  }

  Result<std::optional<Bytes>> size(const fs::path& path) override {
    struct stat info = {};
    if (::stat(path.c_str(), &info) == 0) {
      if (!S_ISREG(info.st_mode)) return environment_error(path, "is not a file");
      return std::optional(Bytes(info.st_size));
    }
    if (errno == ENOENT) return std::optional<Bytes>();
    return posix_error(path, "cannot look up");
  }

  Status read(const fs::path& path, Bytes offset, std::span<std::byte> out) override {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.ok()) return posix_error(path, "cannot open");
    off_t at = offset.count();
    while (!out.empty()) {
      const ssize_t count = ::pread(file.get(), out.data(), out.size(), at);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return posix_error(path, "cannot read");
      if (count == 0) return environment_error(path, kTooShort);
      at += count;
      out = out.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  Result<Bytes> free_space(const fs::path& folder) override {
    struct statvfs info = {};
    if (::statvfs(folder.c_str(), &info) != 0) return posix_error(folder, "cannot look up the free space");
    return Bytes(static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize));
  }
};

}  // namespace

std::unique_ptr<Environment> make_posix_environment() { return std::make_unique<PosixEnvironment>(); }

}  // namespace moecast
