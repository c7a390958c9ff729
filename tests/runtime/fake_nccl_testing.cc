#include "tests/runtime/fake_nccl_testing.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/comm/inproc.h"
#include "tests/runtime/forwarding_communicator_testing.h"
#include "tests/runtime/queued_backend_testing.h"

namespace moecast::testing {
namespace {

using HostBytes = std::vector<char>;

/// All ranks of one communicator, in one process.
struct FakeWorld {
  std::mutex mutex;
  std::condition_variable changed;
  std::set<int> joined;
  std::map<std::pair<int, int>, std::deque<HostBytes>> mail;     // from, to
  std::map<std::int64_t, std::map<int, HostBytes>> collectives;  // by call: what each rank brought
};

struct FakeHandle {
  std::shared_ptr<FakeWorld> world;
  int rank = 0, size = 0;
  std::int64_t collectives = 0;
  bool in_progress = true;  // until it has been asked once
  std::atomic<bool> aborted = false;

  /// False if aborted first.
  template <typename Predicate>
  bool wait(std::unique_lock<std::mutex>& lock, Predicate predicate) {
    world->changed.wait(lock, [&] { return aborted || predicate(); });
    return !aborted;
  }
};
using SharedHandle = std::shared_ptr<FakeHandle>;

std::mutex state_mutex;  // guards what follows: NCCL's functions have no place for state of the caller's
FakeNcclLog state_log;
int next_id = 1;
int reported_error = 0;
std::map<int, std::shared_ptr<FakeWorld>> worlds;
std::map<NcclHandle, SharedHandle> handles;

thread_local int group_depth = 0;
thread_local std::vector<std::function<void()>> group_tasks;
thread_local SharedHandle group_handle;
thread_local Backend* group_stream = nullptr;

SharedHandle find(NcclHandle handle) {
  const std::lock_guard lock(state_mutex);
  const auto found = handles.find(handle);
  EXPECT_NE(found, handles.end()) << "a handle is used after its end";
  return found == handles.end() ? nullptr : found->second;
}

int get_unique_id(NcclUniqueId* id) {
  const std::lock_guard lock(state_mutex);
  std::memcpy(id->bytes, &next_id, sizeof next_id);
  ++next_id;
  return kNcclSuccess;
}

int init(NcclHandle* handle, int size, const NcclUniqueId* id, int rank, int max_ctas) {
  int number = 0;
  std::memcpy(&number, id->bytes, sizeof number);
  auto fake = std::make_shared<FakeHandle>();
  fake->rank = rank;
  fake->size = size;
  *handle = fake.get();
  {
    const std::lock_guard lock(state_mutex);
    std::shared_ptr<FakeWorld>& world = worlds[number];
    if (!world) world = std::make_shared<FakeWorld>();
    fake->world = world;
    handles[*handle] = fake;
    ++state_log.started;
    ++state_log.open;
    state_log.largest_ctas = std::max(state_log.largest_ctas, max_ctas);
  }
  const std::lock_guard lock(fake->world->mutex);  // never under state_mutex: async_error takes them the other way
  EXPECT_TRUE(fake->world->joined.insert(rank).second) << "rank " << rank << " twice";
  fake->world->changed.notify_all();
  return kNcclInProgress;
}

int async_error(NcclHandle handle, int* code) {
  const SharedHandle fake = find(handle);
  const std::lock_guard lock(fake->world->mutex);
  const bool complete = static_cast<int>(fake->world->joined.size()) == fake->size;
  *code = complete && !std::exchange(fake->in_progress, false) ? kNcclSuccess : kNcclInProgress;
  const std::lock_guard state_lock(state_mutex);
  if (*code == kNcclSuccess && reported_error != 0) *code = reported_error;
  return kNcclSuccess;
}

void end(NcclHandle handle, int FakeNcclLog::*count) {
  const SharedHandle fake = find(handle);
  {
    const std::lock_guard lock(fake->world->mutex);
    fake->aborted = true;
    fake->world->changed.notify_all();
  }
  const std::lock_guard lock(state_mutex);
  handles.erase(handle);
  ++(state_log.*count);
  --state_log.open;
}
int finalize(NcclHandle handle) {
  find(handle)->in_progress = true;
  return kNcclInProgress;
}
int destroy(NcclHandle handle) { return end(handle, &FakeNcclLog::destroyed), kNcclSuccess; }
int abort(NcclHandle handle) { return end(handle, &FakeNcclLog::aborted), kNcclSuccess; }

int group_start() { return ++group_depth, kNcclSuccess; }

/// What a group holds runs as one kernel: all sends go out before a receive is waited for.
int group_end() {
  --group_depth;
  if (group_tasks.empty()) return kNcclSuccess;
  queue_task(*group_stream, Lane::Comm, [tasks = std::exchange(group_tasks, {})] {
    for (const auto& task : tasks) task();
  });
  std::exchange(group_handle, nullptr)->in_progress = true;
  return kNcclInProgress;
}

void add_to_group(NcclHandle handle, NcclStream stream, std::function<void()> task) {
  EXPECT_GT(group_depth, 0) << "sends and receives outside a group may deadlock";
  group_handle = find(handle);
  group_stream = static_cast<Backend*>(stream);
  group_tasks.push_back(std::move(task));
}

int send(const void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) {
  EXPECT_GT(bytes, 0U) << "empty messages have made NCCL hang";
  add_to_group(handle, stream, [fake = find(handle), data, bytes, peer] {
    const char* begin = static_cast<const char*>(data);
    const std::lock_guard lock(fake->world->mutex);
    fake->world->mail[{fake->rank, peer}].emplace_back(begin, begin + bytes);
    fake->world->changed.notify_all();
  });
  const std::lock_guard lock(state_mutex);
  ++state_log.sends;
  return kNcclSuccess;
}

int receive(void* data, std::size_t bytes, int peer, NcclHandle handle, NcclStream stream) {
  add_to_group(handle, stream, [fake = find(handle), data, bytes, peer] {
    std::unique_lock lock(fake->world->mutex);
    std::deque<HostBytes>& mail = fake->world->mail[{peer, fake->rank}];
    if (!fake->wait(lock, [&] { return !mail.empty(); })) return;
    ASSERT_EQ(mail.front().size(), bytes);
    std::memcpy(data, mail.front().data(), bytes);
    mail.pop_front();
  });
  const std::lock_guard lock(state_mutex);
  ++state_log.receives;
  return kNcclSuccess;
}

using Contributions = std::map<int, HostBytes>;

/// Queues a collective: every rank brings bytes, `finish` has those of all.
int queue_collective(NcclHandle handle, NcclStream stream, const void* data, std::size_t bytes,
                     std::function<void(const Contributions&)> finish) {
  const SharedHandle fake = find(handle);
  const std::int64_t call = fake->collectives++;
  queue_task(*static_cast<Backend*>(stream), Lane::Comm, [=] {
    const char* begin = static_cast<const char*>(data);
    std::unique_lock lock(fake->world->mutex);
    Contributions& all = fake->world->collectives[call];
    all[fake->rank].assign(begin, begin + bytes);
    fake->world->changed.notify_all();
    if (fake->wait(lock, [&] { return static_cast<int>(all.size()) == fake->size; })) finish(all);
  });
  fake->in_progress = true;
  return kNcclInProgress;
}

template <typename T>
void add_up(const Contributions& all, std::size_t first, std::size_t count, void* sum) {
  T* out = static_cast<T*>(sum);
  for (const auto& [rank, bytes] : all) {
    const T* in = reinterpret_cast<const T*>(bytes.data()) + first;
    for (std::size_t i = 0; i < count; ++i) out[i] = rank == 0 ? in[i] : out[i] + in[i];
  }
}

void add_up(DType dtype, const Contributions& all, std::size_t first, std::size_t count, void* sum) {
  if (dtype == DType::F32) add_up<float>(all, first, count, sum);
  if (dtype == DType::F64) add_up<double>(all, first, count, sum);
  if (dtype == DType::I32) add_up<std::int32_t>(all, first, count, sum);
}

std::size_t width(DType dtype) { return static_cast<std::size_t>(bytes_per_element(dtype)); }

int all_reduce(void* buffer, std::size_t count, DType dtype, NcclHandle handle, NcclStream stream) {
  return queue_collective(handle, stream, buffer, count * width(dtype),
                          [=](const Contributions& all) { add_up(dtype, all, 0, count, buffer); });
}

int reduce_scatter(const void* buffer, void* shard, std::size_t count, DType dtype, NcclHandle handle,
                   NcclStream stream) {
  const SharedHandle fake = find(handle);
  const auto first = count * static_cast<std::size_t>(fake->rank);
  return queue_collective(handle, stream, buffer, count * width(dtype) * static_cast<std::size_t>(fake->size),
                          [=](const Contributions& all) { add_up(dtype, all, first, count, shard); });
}

int all_gather(const void* shard, void* buffer, std::size_t count, DType dtype, NcclHandle handle, NcclStream stream) {
  return queue_collective(handle, stream, shard, count * width(dtype), [=](const Contributions& all) {
    char* out = static_cast<char*>(buffer);
    for (const auto& [rank, bytes] : all) out = std::copy(bytes.begin(), bytes.end(), out);
  });
}

int broadcast(void* buffer, std::size_t bytes, int root, NcclHandle handle, NcclStream stream) {
  return queue_collective(handle, stream, buffer, bytes,
                          [=](const Contributions& all) { std::memcpy(buffer, all.at(root).data(), bytes); });
}

std::string describe(int code, NcclHandle) { return fmt::format("fake error {}", code); }

using Flag = std::shared_ptr<std::atomic<bool>>;

NcclStream stream(Backend& backend, Lane lane) {
  EXPECT_EQ(lane, Lane::Comm);
  return &backend;
}
NcclEvent create_event() { return new Flag; }
void destroy_event(NcclEvent event) { delete static_cast<Flag*>(event); }
void record_event(NcclEvent event, NcclStream stream_handle) {
  const auto flag = std::make_shared<std::atomic<bool>>(false);
  *static_cast<Flag*>(event) = flag;
  queue_task(*static_cast<Backend*>(stream_handle), Lane::Comm, [flag] { *flag = true; });
}
bool has_happened(NcclEvent event) { return **static_cast<Flag*>(event); }

class OwningNccl final : public ForwardingCommunicator {
 public:
  OwningNccl(const NcclFunctions& functions, std::unique_ptr<Communicator> host, Backend& backend,
             const NcclOptions& options)
      : host_(std::move(host)), nccl_(make_nccl_communicator(functions, *host_, backend, options, "world")) {}

 private:
  Communicator& to() const override { return *nccl_; }
  std::unique_ptr<Communicator> host_, nccl_;
};

}  // namespace

const NcclFunctions& fake_nccl() {
  static const NcclFunctions functions = {
      "fake",      get_unique_id, init,   async_error,  finalize,      destroy,        abort,
      group_start, group_end,     send,   receive,      all_reduce,    reduce_scatter, all_gather,
      broadcast,   describe,      stream, create_event, destroy_event, record_event,   has_happened};
  return functions;
}

FakeNcclLog fake_nccl_log() {
  const std::lock_guard lock(state_mutex);
  return state_log;
}
void reset_fake_nccl_log() {
  const std::lock_guard lock(state_mutex);
  state_log = {};
}
void set_fake_nccl_error(int code) {
  const std::lock_guard lock(state_mutex);
  reported_error = code;
}

std::unique_ptr<Communicator> make_owning_nccl(const NcclFunctions& functions, std::unique_ptr<Communicator> host,
                                               Backend& backend, const NcclOptions& options) {
  return std::make_unique<OwningNccl>(functions, std::move(host), backend, options);
}

std::vector<std::unique_ptr<Communicator>> make_fake_nccl_group(std::span<const std::unique_ptr<Backend>> backends) {
  std::vector<std::unique_ptr<Communicator>> ends;
  for (auto& host : make_inproc_group(static_cast<int>(backends.size()), {})) {
    Backend& backend = *backends[static_cast<std::size_t>(host->rank())];
    ends.push_back(make_owning_nccl(fake_nccl(), std::move(host), backend, {}));
  }
  return ends;
}

}  // namespace moecast::testing
