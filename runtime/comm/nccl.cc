#include "runtime/comm/nccl.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "runtime/comm/pacing.h"
#include "runtime/comm/segments.h"

namespace moecast {
namespace {

using std::chrono::steady_clock;

constexpr Lane kLane = Lane::Comm;
constexpr std::chrono::microseconds kNap{50};        // between questions to a call that is in progress
constexpr std::chrono::milliseconds kLook{5};        // between looks at calls on the device
constexpr std::chrono::milliseconds kFarewell{500};  // a peer may leave while the last call ends here
constexpr std::chrono::seconds kEnding{5};           // for a communicator to end in peace

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const NcclFunctions& functions, Communicator& host, Backend& backend, const NcclOptions& options,
                   std::string name)
      : functions_(functions), host_(host), backend_(backend), options_(options), name_(std::move(name)) {}

  ~NcclCommunicator() override {
    if (is_open()) backend_.synchronize(kLane);  // the watcher still ends what would not end by itself
    watcher_ = {};                               // asks it to stop, and joins
    Lock lock(mutex_);
    if (handle_ != nullptr) finish(lock);
    for (const Operation& each : running_) functions_.destroy_event(each.event);
    for (const NcclEvent event : events_) functions_.destroy_event(event);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  [[nodiscard]] std::string name() const override { return "nccl"; }
  [[nodiscard]] int rank() const override { return host_.rank(); }
  [[nodiscard]] int size() const override { return host_.size(); }

  Status all_to_all(Tensor send, std::span<const Segment> send_segments, Tensor receive,
                    std::span<const Segment> receive_segments) override {
    for_own_pairs(send_segments, receive_segments, rank(), [&](const Segment& from, const Segment& to) {
      if (from.row_count == 0) return;
      backend_.copy(kLane, receive.slice(to.row, to.row + to.row_count),
                    send.slice(from.row, from.row + from.row_count));
    });
    if (size() == 1) return check();
    // Also without rows for others: all ranks start NCCL together.
    return issue("all_to_all", [&](NcclStream stream) {
      int code = functions_.group_start();
      const auto note = [&](int each) {
        if (code == kNcclSuccess || code == kNcclInProgress) code = each;
      };
      for_foreign_rows(send, send_segments, [&](const Segment& each, char* rows, std::size_t bytes) {
        note(functions_.send(rows, bytes, each.peer, handle_, stream));
      });
      for_foreign_rows(receive, receive_segments, [&](const Segment& each, char* rows, std::size_t bytes) {
        note(functions_.receive(rows, bytes, each.peer, handle_, stream));
      });
      note(functions_.group_end());
      return code;
    });
  }

  Status all_reduce(Tensor buffer) override {
    if (buffer.element_count() == 0) return check();
    return issue("all_reduce", [&](NcclStream stream) {
      return functions_.all_reduce(buffer.data, size_of(buffer.element_count()), buffer.dtype, handle_, stream);
    });
  }

  Status reduce_scatter(Tensor buffer, Tensor shard) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    if (shard.element_count() == 0) return check();
    return issue("reduce_scatter", [&](NcclStream stream) {
      return functions_.reduce_scatter(buffer.data, shard.data, size_of(shard.element_count()), shard.dtype, handle_,
                                       stream);
    });
  }

  Status all_gather(Tensor shard, Tensor buffer) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    if (shard.element_count() == 0) return check();
    return issue("all_gather", [&](NcclStream stream) {
      return functions_.all_gather(shard.data, buffer.data, size_of(shard.element_count()), shard.dtype, handle_,
                                   stream);
    });
  }

  Status broadcast(Tensor buffer, int root) override {
    ASSERT(0 <= root && root < size());
    if (buffer.element_count() == 0) return check();
    return issue("broadcast", [&](NcclStream stream) {
      return functions_.broadcast(buffer.data, size_of(buffer.bytes().count()), root, handle_, stream);
    });
  }

  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> to_each_peer) override {
    RETURN_IF_ERROR(check());
    Result<std::vector<std::int64_t>> values = host_.exchange(to_each_peer);
    if (!values.ok()) return close_for(values.error());
    return values;
  }
  Status barrier() override {
    RETURN_IF_ERROR(check());
    const Status met = host_.barrier();
    return met.ok() ? met : close_for(met.error());
  }

  Status check() override {
    Lock lock(mutex_);
    look();
    return state();
  }

  void abort(const Error& reason) override {
    host_.abort(reason);  // releases a call that waits for peers there, and so the lock
    const Status told = host_.check();
    (void)close_for(told.ok() ? reason : told.error());
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  /// A call on the device.
  struct Operation {
    NcclEvent event = nullptr;  // its end
    const char* what = "";
    std::int64_t number = 0;
  };

  [[nodiscard]] bool is_open() {
    const Lock lock(mutex_);
    return handle_ != nullptr;
  }
  [[nodiscard]] Status state() const { return error_ ? Status(*error_) : Status(); }
  [[nodiscard]] Error failure(std::string message) const {
    return {ErrorKind::RunFailed, fmt::format("nccl, {} group, position {} of {}", name_, rank(), size()),
            std::move(message)};
  }

  template <typename Body>
  void for_foreign_rows(const Tensor& tensor, std::span<const Segment> segments, Body body) const {
    for (const Segment& each : segments) {
      if (each.peer == rank() || each.row_count == 0) continue;
      body(each, row_pointer(tensor, each.row), size_of(each.row_count * row_bytes(tensor)));
    }
  }

  /// Queues a call; `body` makes it and returns its code.
  template <typename Body>
  Status issue(const char* what, Body body) {
    Lock lock(mutex_);
    if (error_) return *error_;
    if (handle_ == nullptr) RETURN_IF_ERROR(start(lock));
    ++calls_;
    const NcclStream stream = functions_.stream(backend_, kLane);
    RETURN_IF_ERROR(settle(lock, body(stream), what, steady_clock::now() + options_.timeout));
    if (running_.empty()) last_end_ = steady_clock::now();
    running_.push_back({take_event(), what, calls_});
    functions_.record_event(running_.back().event, stream);
    changed_.notify_all();
    return {};
  }

  /// All ranks start NCCL together.
  Status start(Lock& lock) {
    NcclUniqueId id;
    if (rank() == 0) {
      const int code = functions_.get_unique_id(&id);
      if (code != kNcclSuccess) return close(failure(functions_.describe(code, nullptr)));
    }
    lock.unlock();
    const Status told = host_.broadcast(Tensor(id.bytes, DType::I32, {std::int64_t{sizeof id.bytes} / 4}), 0);
    lock.lock();
    if (error_) return *error_;
    if (!told.ok()) return close(told.error());
    static_cast<void>(functions_.stream(backend_, kLane));  // its device is this thread's
    const int code = functions_.init(&handle_, size(), &id, rank(), options_.max_ctas);
    RETURN_IF_ERROR(settle(lock, code, "start", steady_clock::now() + options_.timeout));
    if (!watcher_.joinable()) {
      watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
    }
    return {};
  }

  /// What NCCL says of the group; what it says of being asked, if that fails.
  [[nodiscard]] int progress() const {
    int code = kNcclSuccess;
    const int asked = functions_.async_error(handle_, &code);
    return asked != kNcclSuccess ? asked : code;
  }

  /// Until a call is no longer in progress (on the host); closes the group if it fails, or if a peer is gone for longer
  /// than `farewell` meanwhile.
  Status settle(Lock& lock, int code, const char* what, steady_clock::time_point deadline,
                steady_clock::duration farewell = {}) {
    auto all_there = steady_clock::now();  // when they last were
    while (code == kNcclInProgress) {
      lock.unlock();
      std::this_thread::sleep_for(kNap);
      const Status peers = host_.check();
      lock.lock();
      if (error_) return *error_;
      const auto now = steady_clock::now();
      if (peers.ok()) {
        all_there = now;
      } else if (now - all_there >= farewell) {
        return close(peers.error());
      }
      if (now > deadline) {
        return close(failure(fmt::format("{}: waited {} in vain for the peers", what, pretty(options_.timeout))));
      }
      code = progress();
    }
    if (code == kNcclSuccess) return {};
    return close(failure(fmt::format("{}: {}", what, functions_.describe(code, handle_))));
  }

  /// The first error stays; what waits on the device ends, and the peers hear of it.
  Status close(const Error& error) {
    if (error_) return *error_;
    error_ = error;
    if (handle_ != nullptr) functions_.abort(handle_);
    handle_ = nullptr;
    host_.abort(error);
    return error;
  }
  Error close_for(const Error& error) {
    const Lock lock(mutex_);
    return close(error).error();
  }

  void watch(const std::stop_token& stop) {
    Lock lock(mutex_);
    while (!stop.stop_requested() && changed_.wait(lock, stop, [this] { return !running_.empty() && !error_; })) {
      look();
      changed_.wait_for(lock, stop, kLook, [] { return false; });
    }
  }

  /// What has ended on the device, and whether the rest still may.
  void look() {
    const auto now = steady_clock::now();
    while (!running_.empty() && functions_.has_happened(running_.front().event)) {
      events_.push_back(running_.front().event);
      running_.pop_front();
      last_end_ = now;
    }
    if (handle_ == nullptr) return;
    const int code = progress();
    if (code != kNcclSuccess && code != kNcclInProgress) {
      (void)close(failure(functions_.describe(code, handle_)));
    } else if (!running_.empty()) {
      look_at_peers(now);
    }
  }

  void look_at_peers(steady_clock::time_point now) {
    const Operation& first = running_.front();
    const Status peers = host_.check();
    if (peers.ok()) {
      peer_failed_at_.reset();
    } else if (!peer_failed_at_) {
      peer_failed_at_ = now;
    } else if (now - *peer_failed_at_ > kFarewell) {
      (void)close(peers.error());
      return;
    }
    if (now - last_end_ <= options_.timeout) return;
    (void)close(
        failure(fmt::format("{}, call number {}, did not end within {}: a peer stays away, or the ranks call "
                            "different things",
                            first.what, first.number, pretty(options_.timeout))));
  }

  NcclEvent take_event() {
    if (events_.empty()) return functions_.create_event();
    const NcclEvent event = events_.back();
    events_.pop_back();
    return event;
  }

  /// In peace if all ranks do it soon, else at once. Peers that have done it may be gone before this one has.
  void finish(Lock& lock) {
    const Status ended = settle(lock, functions_.finalize(handle_), "end", steady_clock::now() + kEnding, kFarewell);
    if (ended.ok()) functions_.destroy(handle_);
  }

  const NcclFunctions& functions_;
  Communicator& host_;
  Backend& backend_;
  const NcclOptions options_;
  const std::string name_;

  std::mutex mutex_;  // guards all below; free while a call naps
  std::condition_variable_any changed_;
  NcclHandle handle_ = nullptr;
  std::optional<Error> error_;
  std::int64_t calls_ = 0;
  std::deque<Operation> running_;  // on the device, in order
  std::vector<NcclEvent> events_;  // free ones
  steady_clock::time_point last_end_{};
  std::optional<steady_clock::time_point> peer_failed_at_;
  std::jthread watcher_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const NcclFunctions& functions, Communicator& host,
                                                     Backend& backend, const NcclOptions& options,
                                                     const std::string& name) {
  return std::make_unique<NcclCommunicator>(functions, host, backend, options, name);
}

Groups make_nccl_groups(const NcclFunctions& functions, const Groups& host, Backend& backend,
                        const NcclOptions& options) {
  Groups groups;
  for (const auto& [group, name] : kGroupNames) {
    groups.set(group, make_nccl_communicator(functions, host.at(group), backend, options, std::string(name)));
  }
  return groups;
}

}  // namespace moecast
