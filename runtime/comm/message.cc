#include "runtime/comm/message.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "runtime/comm/message_header.h"
#include "runtime/comm/segments.h"

namespace moecast {
namespace {

using Channel = Transport::Channel;
using Ticket = Transport::Ticket;

// Short against a transfer, long against the question whether it has ended.
constexpr std::chrono::microseconds kNap{20};
constexpr std::int64_t kLargestMessage = std::int64_t{1} << 30;

/// What one call brings.
struct Call {
  CallKind kind = CallKind::Barrier;
  Tensor send = {}, receive = {};
  std::span<const Segment> send_segments = {}, receive_segments = {};
  std::span<const std::int64_t> values = {};
  int root = 0;
  double port_bytes = 0;
};

std::int64_t segment_bytes(std::span<const Segment> segments, const Tensor& tensor, int peer) {
  std::int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.peer == peer ? segment.row_count : 0;
  return rows * row_bytes(tensor);
}

template <typename T>
void add(const char* source, std::int64_t bytes, char* sum) {
  const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(T));
  const T* from = reinterpret_cast<const T*>(source);
  T* to = reinterpret_cast<T*>(sum);
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

void add(DType dtype, const char* source, std::int64_t bytes, char* sum) {
  switch (dtype) {
    case DType::F32:
      return add<float>(source, bytes, sum);
    case DType::F64:
      return add<double>(source, bytes, sum);
    case DType::I32:
      return add<std::int32_t>(source, bytes, sum);
    case DType::BF16:
      break;
  }
  ASSERT(false, "sums of BF16 are not supported in host memory");
}

class MessageCommunicator final : public Communicator {
 public:
  MessageCommunicator(std::unique_ptr<Transport> transport, const LinkOptions& options, std::string name,
                      std::vector<Rank> members)
      : transport_(std::move(transport)),
        options_(options),
        name_(std::move(name)),
        members_(std::move(members)),
        headers_(members_.size()),
        own_headers_(members_.size()),
        farewells_(members_.size()),
        farewell_tickets_(members_.size()) {
    ASSERT(size() == static_cast<int>(members_.size()), "{} members in a group of {}", members_.size(), size());
    for_peers([&](int peer) {
      farewell_tickets_[slot(peer)] =
          transport_->receive(peer, Channel::Abort, &farewells_[slot(peer)], sizeof(MessageFarewell));
    });
  }
  ~MessageCommunicator() override {
    const std::lock_guard lock(mutex_);
    for_peers([&](int peer) {
      if (farewell_tickets_[slot(peer)]) transport_->cancel(*farewell_tickets_[slot(peer)]);
    });
  }
  MessageCommunicator(const MessageCommunicator&) = delete;
  MessageCommunicator& operator=(const MessageCommunicator&) = delete;

  [[nodiscard]] std::string name() const override { return transport_->name(); }
  [[nodiscard]] int rank() const override { return transport_->rank(); }
  [[nodiscard]] int size() const override { return transport_->size(); }

  Status all_to_all(Tensor send, std::span<const Segment> send_segments, Tensor receive,
                    std::span<const Segment> receive_segments) override {
    Call call{CallKind::AllToAll, send, receive, send_segments, receive_segments};
    call.port_bytes =
        std::max(foreign_bytes(send_segments, send, rank()), foreign_bytes(receive_segments, receive, rank()));
    return take_part(call, [&](Lock& lock) { return move_segments(lock, call); });
  }

  Status all_reduce(Tensor buffer) override {
    Call call{CallKind::AllReduce, buffer};
    call.port_bytes = 2 * share_of_others() * buffer.bytes().value();
    return take_part(call, [&](Lock& lock) -> Status {
      RETURN_IF_ERROR(sum_part(lock, buffer, part_of(buffer, rank()).data));
      return gather(lock, buffer);
    });
  }

  Status reduce_scatter(Tensor buffer, Tensor shard) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    Call call{CallKind::ReduceScatter, buffer, shard};
    call.port_bytes = share_of_others() * buffer.bytes().value();
    return take_part(call, [&](Lock& lock) { return sum_part(lock, buffer, static_cast<char*>(shard.data)); });
  }

  Status all_gather(Tensor shard, Tensor buffer) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    Call call{CallKind::AllGather, shard, buffer};
    call.port_bytes = share_of_others() * buffer.bytes().value();
    return take_part(call, [&](Lock& lock) {
      const Memory own = part_of(buffer, rank());
      if (own.data != shard.data && own.bytes > 0)
        std::memcpy(own.data, shard.data, static_cast<std::size_t>(own.bytes));
      return gather(lock, buffer);
    });
  }

  Status broadcast(Tensor buffer, int root) override {
    ASSERT(0 <= root && root < size());
    Call call{CallKind::Broadcast, buffer};
    call.root = root;
    call.port_bytes = buffer.bytes().value();
    const Memory all{static_cast<char*>(buffer.data), buffer.bytes().count()};
    return take_part(call, [&](Lock& lock) {
      if (rank() == root) {
        for_peers([&](int peer) { send(peer, all); });
      } else {
        receive(root, all);
      }
      return wait(lock);
    });
  }

  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> to_each_peer) override {
    ASSERT(static_cast<int>(to_each_peer.size()) == size());
    Call call{CallKind::Exchange};
    call.values = to_each_peer;
    call.port_bytes = static_cast<double>(sizeof(std::int64_t)) * (size() - 1);
    std::vector<std::int64_t> from_each_peer(to_each_peer.begin(), to_each_peer.end());  // the own value is right
    RETURN_IF_ERROR(take_part(call, [&](Lock&) -> Status {
      for_peers([&](int peer) { from_each_peer[slot(peer)] = headers_[slot(peer)].value; });
      return {};
    }));
    return from_each_peer;
  }

  Status barrier() override {
    return take_part(Call{}, [](Lock&) -> Status { return {}; });
  }

  Status check() override {
    const std::lock_guard lock(mutex_);
    if (error_) return *error_;
    Status status;
    for_peers([&](int peer) {
      const std::optional<Ticket>& ticket = farewell_tickets_[slot(peer)];
      if (!status.ok()) return;
      if (farewell_has_come(peer)) status = farewell_of(peer);
      if (ticket && transport_->lost(*ticket)) status = gone(peer);
    });
    return status;
  }

  void abort(const Error& reason) override {
    const std::lock_guard lock(mutex_);
    Error error = reason;
    error.place = fmt::format("{} group", name_);
    error.message = fmt::format("rank {} gave up: {}", member(rank()).value(), reason.text());
    close(error);
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Memory {
    char* data = nullptr;
    std::int64_t bytes = 0;
  };

  static std::size_t slot(int peer) { return static_cast<std::size_t>(peer); }
  [[nodiscard]] Rank member(int peer) const { return members_[slot(peer)]; }
  [[nodiscard]] double share_of_others() const { return static_cast<double>(size() - 1) / size(); }

  /// Begins with the next rank, so that peers are not all sent to in the same order.
  template <typename Body>
  void for_peers(Body body) {
    for (int offset = 1; offset < size(); ++offset) body((rank() + offset) % size());
  }

  /// The part-th of size() parts that differ by one element at most.
  [[nodiscard]] Memory part_of(const Tensor& tensor, int part) const {
    const std::int64_t total = tensor.element_count(), width = bytes_per_element(tensor.dtype);
    const std::int64_t begin = total * part / size(), end = total * (part + 1) / size();
    return {static_cast<char*>(tensor.data) + begin * width, (end - begin) * width};
  }

  void send(int peer, Memory memory) {
    for_pieces(memory, [&](const char* data, std::size_t bytes) {
      tickets_.push_back({peer, transport_->send(peer, Channel::Data, data, bytes)});
    });
  }
  void receive(int peer, Memory memory) {
    for_pieces(memory, [&](char* data, std::size_t bytes) {
      tickets_.push_back({peer, transport_->receive(peer, Channel::Data, data, bytes)});
    });
  }
  /// Networks count the bytes of a message in 31 bits.
  template <typename Body>
  static void for_pieces(Memory memory, Body body) {
    for (std::int64_t begin = 0; begin < memory.bytes; begin += kLargestMessage) {
      body(memory.data + begin, static_cast<std::size_t>(std::min(kLargestMessage, memory.bytes - begin)));
    }
  }

  /// Meets the peers, lets `move` move the data, and leaves when the paced link would be done.
  template <typename Move>
  Status take_part(const Call& call, Move move) {
    Lock lock(mutex_);
    if (error_) return *error_;
    ++calls_;
    deadline_ = std::chrono::steady_clock::now() + options_.timeout;
    Status status = meet(lock, call);
    const SteadyTime met = std::chrono::steady_clock::now();
    if (status.ok()) status = move(lock);
    if (status.ok() && options_.pacing && call.kind != CallKind::Barrier && size() > 1) {
      status = wait_for_link(lock, met, call.port_bytes);
    }
    if (!status.ok()) {
      close(status.error());
      give_up_tickets();
    }
    if (!error_) completed_ = calls_;
    return error_ ? Status(*error_) : Status();
  }

  /// Headers from all to all, and whether they agree with this rank's call.
  Status meet(Lock& lock, const Call& call) {
    for_peers([&](int peer) {
      MessageHeader& own = own_headers_[slot(peer)];
      own = {call.kind, call.send.dtype, call.root};
      own.call = calls_;
      own.elements = sizes_must_agree(call.kind) ? call.send.element_count() : 0;
      own.bytes = segment_bytes(call.send_segments, call.send, peer);
      own.port_bytes = call.port_bytes;
      own.value = call.values.empty() ? 0 : call.values[slot(peer)];
      header_tickets_.push_back(
          {peer, transport_->receive(peer, Channel::Header, &headers_[slot(peer)], sizeof(MessageHeader))});
      tickets_.push_back({peer, transport_->send(peer, Channel::Header, &own, sizeof(MessageHeader))});
    });
    RETURN_IF_ERROR(wait(lock));
    Status agreed;
    for_peers([&](int peer) {
      if (agreed.ok()) agreed = check_agreement(call, peer);
    });
    return agreed;
  }

  Status check_agreement(const Call& call, int peer) const {
    const MessageHeader& theirs = headers_[slot(peer)];
    const MessageHeader& mine = own_headers_[slot(peer)];
    const std::int64_t expected = segment_bytes(call.receive_segments, call.receive, peer);
    if (agree(mine, theirs) && theirs.bytes == expected) return {};
    const std::string text =
        agree(mine, theirs)
            ? fmt::format("all_to_all: rank {} sends {} bytes, rank {} expects {}", member(peer).value(), theirs.bytes,
                          member(rank()).value(), expected)
            : fmt::format("the ranks disagree: {}, {}", describe(mine, member(rank())), describe(theirs, member(peer)));
    return Error{ErrorKind::RunFailed, name_ + " group", text};
  }

  Status move_segments(Lock& lock, const Call& call) {
    const auto memory = [](const Tensor& tensor, const Segment& segment) {
      return Memory{row_pointer(tensor, segment.row), segment.row_count * row_bytes(tensor)};
    };
    for (const Segment& to : call.receive_segments) {
      if (to.peer != rank()) receive(to.peer, memory(call.receive, to));
    }
    for (const Segment& from : call.send_segments) {
      if (from.peer != rank()) send(from.peer, memory(call.send, from));
    }
    copy_own_segments(call);
    return wait(lock);
  }

  void copy_own_segments(const Call& call) const {
    const std::int64_t width = row_bytes(call.send);
    for_own_pairs(call.send_segments, call.receive_segments, rank(), [&](const Segment& from, const Segment& to) {
      if (from.row_count == 0) return;
      std::memcpy(row_pointer(call.receive, to.row), row_pointer(call.send, from.row),
                  static_cast<std::size_t>(from.row_count * width));
    });
  }

  /// result = this rank's part of the sum over ranks, added in rank order. It may lie in the buffer.
  Status sum_part(Lock& lock, const Tensor& buffer, char* result) {
    const Memory own = part_of(buffer, rank());
    const auto bytes = static_cast<std::size_t>(own.bytes);
    parts_.resize(std::max(parts_.size(), bytes * slot(size())));
    const auto place = [&](int peer) { return parts_.data() + bytes * slot(peer); };
    for_peers([&](int peer) { receive(peer, {place(peer), own.bytes}); });
    for_peers([&](int peer) { send(peer, part_of(buffer, peer)); });
    if (bytes > 0) std::memcpy(place(rank()), own.data, bytes);
    RETURN_IF_ERROR(wait(lock));
    if (bytes == 0) return {};
    std::memcpy(result, place(0), bytes);
    for (int peer = 1; peer < size(); ++peer) add(buffer.dtype, place(peer), own.bytes, result);
    return {};
  }

  /// Every rank's part to all.
  Status gather(Lock& lock, const Tensor& buffer) {
    for_peers([&](int peer) { receive(peer, part_of(buffer, peer)); });
    for_peers([&](int peer) { send(peer, part_of(buffer, rank())); });
    return wait(lock);
  }

  /// Until everything that was started is done. An error closes the group.
  Status wait(Lock& lock) {
    for (;;) {
      for (std::vector<PeerTicket>* open : {&tickets_, &header_tickets_}) {
        std::erase_if(*open, [&](const PeerTicket& each) { return transport_->done(each.ticket); });
      }
      if (tickets_.empty() && header_tickets_.empty()) return {};
      look_for_farewells();
      if (error_) return *error_;
      if (const std::optional<int> peer = lost_peer()) return gone(*peer);
      if (std::chrono::steady_clock::now() > deadline_) return missing_peers();
      nap(lock);
    }
  }

  Status wait_for_link(Lock& lock, SteadyTime met, double own_port_bytes) {
    double port_bytes = own_port_bytes;
    for_peers([&](int peer) { port_bytes = std::max(port_bytes, headers_[slot(peer)].port_bytes); });
    const Duration needed = paced_time(*options_.pacing, port_bytes);
    const SteadyTime end = met + std::min(needed, options_.timeout);
    while (std::chrono::steady_clock::now() < end - kSpin) {
      look_for_farewells();
      if (error_) return *error_;
      nap(lock,
          std::min<SteadyTime::duration>(std::chrono::milliseconds(1), end - kSpin - std::chrono::steady_clock::now()));
    }
    if (needed > options_.timeout) return stalled_link(name_, port_bytes, options_.timeout);
    lock.unlock();
    spin_until(end);
    lock.lock();
    return {};
  }

  static void nap(Lock& lock, SteadyTime::duration time = kNap) {
    lock.unlock();
    ask_for_exact_sleeps();
    std::this_thread::sleep_for(time);
    lock.lock();
  }

  void look_for_farewells() {
    for_peers([&](int peer) {
      if (!farewell_has_come(peer) || error_ || farewells_[slot(peer)].completed >= calls_) return;
      error_ = farewell_of(peer);
    });
  }

  bool farewell_has_come(int peer) {
    std::optional<Ticket>& ticket = farewell_tickets_[slot(peer)];
    if (ticket && transport_->done(*ticket)) ticket.reset();
    return !ticket;
  }

  [[nodiscard]] Error farewell_of(int peer) const {
    const MessageFarewell& farewell = farewells_[slot(peer)];
    return {farewell.kind, fmt::format("{} group", name_), farewell.message};
  }

  /// A peer that the call at hand needs and that is gone.
  [[nodiscard]] std::optional<int> lost_peer() const {
    for (const std::vector<PeerTicket>* open : {&header_tickets_, &tickets_}) {
      for (const PeerTicket& each : *open) {
        if (transport_->lost(each.ticket)) return each.peer;
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::string place() const { return fmt::format("{} group, rank {}", name_, member(rank()).value()); }

  [[nodiscard]] Error gone(int peer) const {
    return {ErrorKind::RunFailed, place(),
            fmt::format("rank {} is gone: its process has ended or cannot be reached", member(peer).value())};
  }

  [[nodiscard]] Error missing_peers() const {
    std::string missing;
    for (const PeerTicket& each : header_tickets_) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", member(each.peer).value());
    }
    const std::string what = missing.empty() ? "the data of its peers" : "rank " + missing;
    return {ErrorKind::RunFailed, place(),
            fmt::format("call number {}: waited {} in vain for {}", calls_, pretty(options_.timeout), what)};
  }

  /// The first error stays, and every peer hears of it.
  void close(const Error& error) {
    if (error_) return;
    error_ = error;
    own_farewell_.kind = error.kind;
    own_farewell_.completed = completed_;
    const std::size_t length = std::min(error.message.size(), sizeof own_farewell_.message - 1);
    std::memcpy(own_farewell_.message, error.message.data(), length);
    // Their tickets stay open: nobody waits for a message whose receiver may be gone.
    for_peers([&](int peer) { (void)transport_->send(peer, Channel::Abort, &own_farewell_, sizeof own_farewell_); });
  }

  void give_up_tickets() {
    for (const std::vector<PeerTicket>* open : {&tickets_, &header_tickets_}) {
      for (const PeerTicket& each : *open) transport_->cancel(each.ticket);
    }
    tickets_.clear();
    header_tickets_.clear();
  }

  struct PeerTicket {
    int peer = 0;
    Ticket ticket{};
  };

  std::mutex mutex_;  // guards all below; free while a call naps
  std::unique_ptr<Transport> transport_;
  const LinkOptions options_;
  const std::string name_;
  const std::vector<Rank> members_;
  std::vector<MessageHeader> headers_, own_headers_;  // from and to each peer
  std::vector<MessageFarewell> farewells_;
  MessageFarewell own_farewell_;
  std::vector<std::optional<Ticket>> farewell_tickets_;
  std::vector<PeerTicket> tickets_;         // of the call at hand
  std::vector<PeerTicket> header_tickets_;  // receives of headers: who has not come
  std::vector<char> parts_;                 // of a sum, one from each rank
  std::int64_t calls_ = 0;
  std::int64_t completed_ = 0;
  SteadyTime deadline_{};
  std::optional<Error> error_;
};

}  // namespace

std::unique_ptr<Communicator> make_message_communicator(std::unique_ptr<Transport> transport,
                                                        const LinkOptions& options, const std::string& name,
                                                        const std::vector<Rank>& members) {
  return std::make_unique<MessageCommunicator>(std::move(transport), options, name, members);
}

}  // namespace moecast
