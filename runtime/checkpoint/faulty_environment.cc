#include "runtime/checkpoint/faulty_environment.h"

#include <algorithm>
#include <thread>

namespace moecast {

namespace {

namespace fs = std::filesystem;

Error injected(const fs::path& path) { return environment_error(path, "an injected fault"); }
Error dead(const fs::path& path) { return environment_error(path, "the process has stopped"); }

}  // namespace

class FaultyEnvironment::File final : public OutputFile {
 public:
  File(FaultyEnvironment& environment, std::unique_ptr<OutputFile> inner, fs::path path)
      : environment_(environment), inner_(std::move(inner)), path_(std::move(path)) {}

  Status append(std::span<const std::byte> data) override {
    return remember(error_ ? Status(*error_) : environment_.append(*inner_, path_, data));
  }
  Status sync() override {
    if (error_) return *error_;
    if (Status status = environment_.change(path_); !status.ok()) return remember(std::move(status));
    return remember(inner_->sync());
  }

 private:
  Status remember(Status status) {
    if (!status.ok()) error_ = status.error();
    return status;
  }

  FaultyEnvironment& environment_;
  std::unique_ptr<OutputFile> inner_;
  fs::path path_;
  std::optional<Error> error_;
};

void FaultyEnvironment::set_faults(const StorageFaults& faults) {
  const std::lock_guard lock(mutex_);
  faults_ = faults;
}

std::int64_t FaultyEnvironment::operation_count() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

void FaultyEnvironment::hold_appends() {
  const std::lock_guard lock(mutex_);
  held_ = true;
}

void FaultyEnvironment::release_appends() {
  {
    const std::lock_guard lock(mutex_);
    held_ = false;
  }
  released_.notify_all();
}

FaultyEnvironment::Fate FaultyEnvironment::next() {
  const std::lock_guard lock(mutex_);
  const std::int64_t operation = operations_++;
  if (stopped_) return Fate::IsDead;
  if (faults_.stop_at && operation >= *faults_.stop_at) {
    stopped_ = true;
    return Fate::Stops;
  }
  if (faults_.fail_at == operation) return Fate::Fails;
  return faults_.flip_at == operation ? Fate::Flips : Fate::Works;
}

Status FaultyEnvironment::change(const fs::path& path) {
  const Fate fate = next();
  if (fate == Fate::Stops || fate == Fate::IsDead) return dead(path);
  return fate == Fate::Fails ? Status(injected(path)) : Status();
}

Status FaultyEnvironment::alive(const fs::path& path) const {
  const std::lock_guard lock(mutex_);
  return stopped_ ? Status(dead(path)) : Status();
}

StorageFaults FaultyEnvironment::wait_for_release() {
  std::unique_lock lock(mutex_);
  released_.wait(lock, [this] { return !held_; });
  return faults_;
}

std::size_t FaultyEnvironment::take_space(std::size_t size) {
  const std::lock_guard lock(mutex_);
  if (faults_.capacity) {
    const std::int64_t left = std::max<std::int64_t>(0, faults_.capacity->count() - bytes_);
    size = std::min(size, static_cast<std::size_t>(left));
  }
  bytes_ += static_cast<std::int64_t>(size);
  return size;
}

Status FaultyEnvironment::append(OutputFile& file, const fs::path& path, std::span<const std::byte> data) {
  const StorageFaults faults = wait_for_release();
  const Fate fate = next();
  if (fate == Fate::Fails) return injected(path);
  if (fate == Fate::IsDead) return dead(path);
  if (fate == Fate::Stops) {
    const Status half = file.append(data.first(data.size() / 2));
    return half.ok() ? Status(dead(path)) : half;
  }
  if (faults.rate) std::this_thread::sleep_for(Bytes(static_cast<std::int64_t>(data.size())) / *faults.rate);
  const std::size_t fitting = take_space(data.size());
  if (fitting > 0 && (faults.flip_all || fate == Fate::Flips)) {
    std::vector<std::byte> copy(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(fitting));
    copy[fitting / 2] ^= std::byte{1};
    RETURN_IF_ERROR(file.append(copy));
  } else {
    RETURN_IF_ERROR(file.append(data.first(fitting)));
  }
  return fitting < data.size() ? Status(environment_error(path, kStorageFull, "an injected fault")) : Status();
}

Status FaultyEnvironment::create_folders(const fs::path& folder) {
  RETURN_IF_ERROR(change(folder));
  return inner_.create_folders(folder);
}

Result<std::unique_ptr<OutputFile>> FaultyEnvironment::create(const fs::path& path) {
  RETURN_IF_ERROR(change(path));
  Result<std::unique_ptr<OutputFile>> file = inner_.create(path);
  if (!file.ok()) return file.error();
  return std::unique_ptr<OutputFile>(std::make_unique<File>(*this, std::move(file).value(), path));
}

Status FaultyEnvironment::rename(const fs::path& from, const fs::path& to) {
  RETURN_IF_ERROR(change(to));
  return inner_.rename(from, to);
}

Status FaultyEnvironment::sync_folder(const fs::path& folder) {
  RETURN_IF_ERROR(change(folder));
  return inner_.sync_folder(folder);
}

Status FaultyEnvironment::remove(const fs::path& path) {
  RETURN_IF_ERROR(change(path));
  return inner_.remove(path);
}

Result<std::optional<std::vector<std::string>>> FaultyEnvironment::list(const fs::path& folder) {
  RETURN_IF_ERROR(alive(folder));
  return inner_.list(folder);
}

Result<std::optional<Bytes>> FaultyEnvironment::size(const fs::path& path) {
  RETURN_IF_ERROR(alive(path));
  return inner_.size(path);
}

Status FaultyEnvironment::read(const fs::path& path, Bytes offset, std::span<std::byte> out) {
  RETURN_IF_ERROR(alive(path));
  return inner_.read(path, offset, out);
}

Result<Bytes> FaultyEnvironment::free_space(const fs::path& folder) {
  const Result<Bytes> inner = inner_.free_space(folder);
  if (!inner.ok()) return inner;
  const std::lock_guard lock(mutex_);
  if (!faults_.capacity) return inner;
  return std::min(inner.value(), Bytes(std::max<std::int64_t>(0, faults_.capacity->count() - bytes_)));
}

}  // namespace moecast
