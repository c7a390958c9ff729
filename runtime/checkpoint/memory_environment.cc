#include "runtime/checkpoint/memory_environment.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace moecast {

namespace {

namespace fs = std::filesystem;

std::string folder_key(const fs::path& folder) {
  std::string key = (folder.empty() ? fs::path(".") : folder).lexically_normal().string();
  while (key.size() > 1 && key.back() == '/') key.pop_back();
  return key;
}
std::string parent_key(const fs::path& path) { return folder_key(path.parent_path()); }
std::string name_of(const fs::path& path) { return path.filename().string(); }

enum Draw : std::uint64_t { kNameSurvives, kAppendFate, kTornLength, kGarbage };

}  // namespace

class MemoryEnvironment::File final : public OutputFile {
 public:
  File(MemoryEnvironment& environment, std::shared_ptr<Inode> inode)
      : environment_(environment), inode_(std::move(inode)) {}

  Status append(std::span<const std::byte> data) override {
    const std::lock_guard lock(environment_.mutex_);
    inode_->content.append(reinterpret_cast<const char*>(data.data()), data.size());
    inode_->unsynced_ends.push_back(inode_->content.size());
    return {};
  }
  Status sync() override {
    const std::lock_guard lock(environment_.mutex_);
    inode_->durable = inode_->content;
    inode_->unsynced_ends.clear();
    return {};
  }

 private:
  MemoryEnvironment& environment_;
  std::shared_ptr<Inode> inode_;  // shared: the name and the open file hold it, as on POSIX
};

MemoryEnvironment::Folder* MemoryEnvironment::find_folder(const fs::path& path) {
  const auto found = folders_.find(parent_key(path));
  return found == folders_.end() ? nullptr : &found->second;
}

std::shared_ptr<MemoryEnvironment::Inode> MemoryEnvironment::find(const fs::path& path) {
  Folder* folder = find_folder(path);
  if (folder == nullptr) return nullptr;
  const auto found = folder->names.find(name_of(path));
  return found == folder->names.end() ? nullptr : found->second;
}

void MemoryEnvironment::apply(Names& names, const NameChange& change) {
  if (!change.removed.empty()) {
    const auto old = names.find(change.removed);
    if (old != names.end() && old->second == change.inode) names.erase(old);
  }
  if (!change.added.empty()) names[change.added] = change.inode;
}

Status MemoryEnvironment::create_folders(const fs::path& folder) {
  const std::lock_guard lock(mutex_);
  fs::path path = folder_key(folder);
  while (true) {
    if (find(path) != nullptr) return environment_error(path, kExists, "and is not a folder");
    folders_[path.string()];
    if (!path.has_parent_path() || path.parent_path() == path) return {};
    path = path.parent_path();
  }
}

Result<std::unique_ptr<OutputFile>> MemoryEnvironment::create(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  Folder* folder = find_folder(path);
  if (folder == nullptr) return environment_error(path, kMissing);
  if (folder->names.contains(name_of(path))) return environment_error(path, kExists);
  const NameChange change{"", name_of(path), std::make_shared<Inode>()};
  apply(folder->names, change);
  folder->unsynced.push_back(change);
  return std::unique_ptr<OutputFile>(std::make_unique<File>(*this, change.inode));
}

Status MemoryEnvironment::rename(const fs::path& from, const fs::path& to) {
  const std::lock_guard lock(mutex_);
  ASSERT(parent_key(from) == parent_key(to), "{} to {}", from.string(), to.string());
  const std::shared_ptr<Inode> inode = find(from);
  if (inode == nullptr) return environment_error(from, kMissing);
  if (find(to) != nullptr) return environment_error(to, kExists);
  Folder* folder = find_folder(from);
  const NameChange change{name_of(from), name_of(to), inode};
  apply(folder->names, change);
  folder->unsynced.push_back(change);
  return {};
}

Status MemoryEnvironment::sync_folder(const fs::path& folder) {
  const std::lock_guard lock(mutex_);
  const auto found = folders_.find(folder_key(folder));
  if (found == folders_.end()) return environment_error(folder, kMissing);
  found->second.durable = found->second.names;
  found->second.unsynced.clear();
  return {};
}

Status MemoryEnvironment::remove(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Inode> inode = find(path);
  if (inode == nullptr) return {};
  Folder* folder = find_folder(path);
  const NameChange change{name_of(path), "", inode};
  apply(folder->names, change);
  folder->unsynced.push_back(change);
  return {};
}

Result<std::optional<std::vector<std::string>>> MemoryEnvironment::list(const fs::path& folder) {
  const std::lock_guard lock(mutex_);
  const std::string key = folder_key(folder);
  const auto found = folders_.find(key);
  if (found == folders_.end()) return std::optional<std::vector<std::string>>();
  std::vector<std::string> names;
  for (const auto& [name, inode] : found->second.names) names.push_back(name);
  for (const auto& [other, content] : folders_) {
    if (other != key && parent_key(other) == key) names.push_back(name_of(other));
  }
  std::ranges::sort(names);
  return std::optional(std::move(names));
}

Result<std::optional<Bytes>> MemoryEnvironment::size(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  if (folders_.contains(folder_key(path))) return environment_error(path, "is not a file");
  const std::shared_ptr<Inode> inode = find(path);
  if (inode == nullptr) return std::optional<Bytes>();
  return std::optional(Bytes(static_cast<std::int64_t>(inode->content.size())));
}

Status MemoryEnvironment::read(const fs::path& path, Bytes offset, std::span<std::byte> out) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Inode> inode = find(path);
  if (inode == nullptr) return environment_error(path, kMissing);
  const std::size_t begin = static_cast<std::size_t>(offset.count());
  if (begin > inode->content.size() || inode->content.size() - begin < out.size()) {
    return environment_error(path, kTooShort);
  }
  if (!out.empty()) std::memcpy(out.data(), inode->content.data() + begin, out.size());
  return {};
}

Result<Bytes> MemoryEnvironment::free_space(const fs::path&) { return Bytes(std::int64_t{1} << 50); }

void MemoryEnvironment::flip_bit(const fs::path& path, std::int64_t bit) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Inode> inode = find(path);
  ASSERT(inode != nullptr, "{}", path.string());
  const std::size_t at = static_cast<std::size_t>(bit / 8);
  for (std::string* data : {&inode->content, &inode->durable}) {
    if (at < data->size()) (*data)[at] = static_cast<char>((*data)[at] ^ (1 << (bit % 8)));
  }
}

void MemoryEnvironment::resize(const fs::path& path, Bytes size) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Inode> inode = find(path);
  ASSERT(inode != nullptr, "{}", path.string());
  inode->content.resize(static_cast<std::size_t>(size.count()), '\0');
  inode->durable = inode->content;
}

/// Appends that did not survive leave a hole of zeros when a later one did: sizes and blocks reach the disk in any
/// order.
std::string MemoryEnvironment::surviving(const Inode& inode, Survival survival, const CounterRandom& random,
                                         std::uint64_t entity) {
  if (survival == Survival::Everything) return inode.content;
  std::string out = inode.durable;
  if (survival == Survival::Nothing) return out;
  std::size_t begin = inode.durable.size();
  std::uint64_t draw = 0;
  for (const std::size_t end : inode.unsynced_ends) {
    const std::size_t length = end - begin;
    const std::int64_t fate = random.below(4, entity, 4 * draw + kAppendFate);
    std::size_t kept = fate == 0 ? 0 : length;
    if (fate == 1) {
      kept =
          static_cast<std::size_t>(random.below(static_cast<std::int64_t>(length) + 1, entity, 4 * draw + kTornLength));
    }
    if (kept > 0) {
      out.resize(begin, '\0');
      out += inode.content.substr(begin, kept);
      if (fate == 2) out[begin + kept / 2] = static_cast<char>(random.bits(entity, 4 * draw + kGarbage));
    }
    begin = end;
    ++draw;
  }
  return out;
}

std::unique_ptr<MemoryEnvironment> MemoryEnvironment::after_power_loss(Survival survival, std::uint64_t seed) const {
  const std::lock_guard lock(mutex_);
  const CounterRandom random(seed, stream_of("power loss"));
  auto next = std::make_unique<MemoryEnvironment>();
  std::map<const Inode*, std::shared_ptr<Inode>> copies;
  std::uint64_t entity = 0;
  for (const auto& [key, folder] : folders_) {
    Names names = survival == Survival::Everything ? folder.names : folder.durable;
    for (const NameChange& change : folder.unsynced) {
      ++entity;
      if (survival == Survival::Random && random.below(2, entity, kNameSurvives) == 0) apply(names, change);
    }
    Folder& copy = next->folders_[key];
    for (const auto& [name, inode] : names) {
      std::shared_ptr<Inode>& same = copies[inode.get()];
      if (same == nullptr) {
        same = std::make_shared<Inode>();
        same->content = surviving(*inode, survival, random, ++entity);
        same->durable = same->content;
      }
      copy.names[name] = same;
    }
    copy.durable = copy.names;
  }
  return next;
}

}  // namespace moecast
