#include "runtime/checkpoint/posix_output_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace moecast {

namespace {

constexpr std::align_val_t kAlignment{4096};  // of memory, offset and length of a direct write

/// Writes everything at the end of the file.
Status write_all(int descriptor, const std::filesystem::path& path, const std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return posix_error(path, "cannot write");
    data += written;
    size -= static_cast<std::size_t>(written);
  }
  return {};
}

bool set_direct(int descriptor, bool direct) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0) return false;
  return ::fcntl(descriptor, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

}  // namespace

Error posix_error(const std::filesystem::path& path, std::string_view what) {
  const int code = errno;
  const std::string detail = fmt::format("{} ({})", what, std::strerror(code));
  switch (code) {
    case EACCES:
    case EPERM:
    case EROFS:
      return environment_error(path, kNoPermission, detail);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return environment_error(path, kStorageFull, detail);
    case EEXIST:
      return environment_error(path, kExists, detail);
    case ENOENT:
    case ENOTDIR:
      return environment_error(path, kMissing, detail);
    default:
      return environment_error(path, detail);
  }
}

void PosixOutputFile::FreeBlock::operator()(std::byte* block) const { ::operator delete(block, kAlignment); }

PosixOutputFile::Block PosixOutputFile::make_block() {
  return Block(static_cast<std::byte*>(::operator new(kBlock, kAlignment)));
}

PosixOutputFile::PosixOutputFile(int descriptor, std::filesystem::path path)
    : descriptor_(descriptor), path_(std::move(path)), filling_(make_block()) {}

PosixOutputFile::~PosixOutputFile() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  ::close(descriptor_);
}

Status PosixOutputFile::fail(Error error) {
  error_ = std::move(error);
  return *error_;
}

Status PosixOutputFile::append(std::span<const std::byte> data) {
  if (error_) return *error_;
  while (!data.empty()) {
    const std::size_t size = std::min(data.size(), kBlock - filled_);
    std::memcpy(filling_.get() + filled_, data.data(), size);
    filled_ += size;
    data = data.subspan(size);
    if (filled_ < kBlock) break;
    RETURN_IF_ERROR(hand_over());
  }
  return {};
}

Status PosixOutputFile::hand_over() {
  if (!thread_.joinable()) {
    direct_ = set_direct(descriptor_, true);
    writing_ = make_block();
    thread_ = std::thread([this] { write_blocks(); });
  }
  RETURN_IF_ERROR(wait_until_idle());
  {
    const std::lock_guard lock(mutex_);
    std::swap(filling_, writing_);
    busy_ = true;
  }
  changed_.notify_all();
  filled_ = 0;
  return {};
}

Status PosixOutputFile::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
  if (thread_error_) return fail(*thread_error_);
  return {};
}

void PosixOutputFile::write_blocks() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return busy_ || ending_; });
    if (!busy_) return;
    lock.unlock();
    const Status status = write_all(descriptor_, path_, writing_.get(), kBlock);
    lock.lock();
    if (!status.ok() && !thread_error_) thread_error_ = status.error();
    busy_ = false;
    changed_.notify_all();
  }
}

Status PosixOutputFile::sync() {
  if (error_) return *error_;
  RETURN_IF_ERROR(wait_until_idle());
  if (direct_ && !set_direct(descriptor_, false)) return fail(posix_error(path_, "cannot leave direct writing"));
  direct_ = false;
  if (const Status status = write_all(descriptor_, path_, filling_.get(), filled_); !status.ok()) {
    return fail(status.error());
  }
  filled_ = 0;
  if (::fsync(descriptor_) != 0) return fail(posix_error(path_, "cannot sync"));
  return {};
}

}  // namespace moecast
