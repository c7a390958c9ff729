#include "runtime/trainer/process_meeting.h"

#include <cstring>
#include <numeric>

#include <fmt/format.h>

namespace moecast {
namespace {

static_assert(std::is_trivially_copyable_v<Span>);

class Writer {
 public:
  template <typename T>
  void value(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof value);
  }
  template <typename List>
  void list(const List& list) {
    value(static_cast<std::int64_t>(list.size()));
    for (const auto& each : list) value(each);
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T value() {
    T out{};
    if (bytes_.size() < sizeof out) {
      good_ = false;
      return out;
    }
    std::memcpy(&out, bytes_.data(), sizeof out);
    bytes_ = bytes_.subspan(sizeof out);
    return out;
  }
  template <typename List>
  List list() {
    using T = typename List::value_type;
    List out;
    const auto count = value<std::int64_t>();
    good_ = good_ && count >= 0 && static_cast<std::size_t>(count) <= bytes_.size() / sizeof(T);
    for (std::int64_t i = 0; good_ && i < count; ++i) out.push_back(value<T>());
    return out;
  }
  [[nodiscard]] bool good() const { return good_; }
  /// All was there, and nothing is left.
  [[nodiscard]] bool complete() const { return good_ && bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

void write(const Error& error, Writer& writer) {
  writer.value(error.kind);
  writer.list(error.place);
  writer.list(error.message);
}

Error read_error(Reader& reader) {
  Error error;
  error.kind = reader.value<ErrorKind>();
  error.place = reader.list<std::string>();
  error.message = reader.list<std::string>();
  return error;
}

/// All of an outcome but its error, which travels behind it.
void write(const CheckpointOutcome& outcome, Writer& writer) {
  writer.value(outcome.kind);
  for (const std::int64_t number : {outcome.version, outcome.step}) writer.value(number);
  for (const Bytes bytes : {outcome.copied, outcome.written}) writer.value(bytes);
  for (const Duration time : {outcome.beside, outcome.stall}) writer.value(time);
  for (const Instant time :
       {outcome.copy_begin, outcome.copy_end, outcome.persist_begin, outcome.durable, outcome.committed}) {
    writer.value(time);
  }
  writer.value(outcome.error.has_value());
  if (outcome.error) write(*outcome.error, writer);
}

CheckpointOutcome read_checkpoint(Reader& reader) {
  CheckpointOutcome outcome;
  outcome.kind = reader.value<CheckpointOutcome::Kind>();
  for (std::int64_t* number : {&outcome.version, &outcome.step}) *number = reader.value<std::int64_t>();
  for (Bytes* bytes : {&outcome.copied, &outcome.written}) *bytes = reader.value<Bytes>();
  for (Duration* time : {&outcome.beside, &outcome.stall}) *time = reader.value<Duration>();
  for (Instant* time :
       {&outcome.copy_begin, &outcome.copy_end, &outcome.persist_begin, &outcome.durable, &outcome.committed}) {
    *time = reader.value<Instant>();
  }
  if (reader.value<bool>()) outcome.error = read_error(reader);
  return outcome;
}

void write(const RestoredRank& restored, Writer& writer) {
  writer.value(restored.version);
  writer.value(restored.state.step);
  writer.value(restored.state.data_position);
  writer.list(restored.state.random_state);
  writer.value(static_cast<std::int64_t>(restored.state.extra.size()));
  for (const auto& [key, text] : restored.state.extra) {
    writer.list(key);
    writer.list(text);
  }
  writer.list(restored.units);
  writer.value(restored.duration);
  writer.value(restored.from_memory);
  writer.value(restored.from_storage);
  writer.value(static_cast<std::int64_t>(restored.damages.size()));
  for (const std::string& damage : restored.damages) writer.list(damage);
}

RestoredRank read_restored(Reader& reader) {
  RestoredRank restored;
  restored.version = reader.value<std::int64_t>();
  restored.state.step = reader.value<std::int64_t>();
  restored.state.data_position = reader.value<std::int64_t>();
  restored.state.random_state = reader.list<std::string>();
  const auto extras = reader.value<std::int64_t>();
  for (std::int64_t i = 0; reader.good() && i < extras; ++i) {
    std::string key = reader.list<std::string>();
    restored.state.extra[std::move(key)] = reader.list<std::string>();
  }
  restored.units = reader.list<std::vector<RestoredRank::Unit>>();
  restored.duration = reader.value<Duration>();
  restored.from_memory = reader.value<Bytes>();
  restored.from_storage = reader.value<Bytes>();
  const auto damages = reader.value<std::int64_t>();
  for (std::int64_t i = 0; reader.good() && i < damages; ++i) restored.damages.push_back(reader.list<std::string>());
  return restored;
}

void write(const StepOutcome& outcome, Writer& writer) {
  writer.value(outcome.loss_sum);
  writer.value(outcome.token_count);
  writer.value(outcome.balance_loss);
  writer.value(outcome.router_losses);
  writer.value(outcome.gradient_norm);
  writer.value(static_cast<std::int64_t>(outcome.routed.size()));
  for (const std::vector<std::int64_t>& counts : outcome.routed) writer.list(counts);
  for (const std::vector<std::int64_t>& counts : outcome.processed) writer.list(counts);
  writer.list(outcome.dropped);
  writer.list(outcome.spans);
  writer.value(static_cast<std::int64_t>(outcome.checkpoints.size()));
  for (const CheckpointOutcome& checkpoint : outcome.checkpoints) write(checkpoint, writer);
  writer.value(outcome.restored.has_value());
  if (outcome.restored) write(*outcome.restored, writer);
}

StepOutcome read_outcome(Reader& reader) {
  StepOutcome outcome;
  outcome.loss_sum = reader.value<double>();
  outcome.token_count = reader.value<std::int64_t>();
  outcome.balance_loss = reader.value<double>();
  outcome.router_losses = reader.value<RouterLosses>();
  outcome.gradient_norm = reader.value<double>();
  const auto blocks = reader.value<std::int64_t>();
  for (auto* counts : {&outcome.routed, &outcome.processed}) {
    for (std::int64_t i = 0; reader.good() && i < blocks; ++i)
      counts->push_back(reader.list<std::vector<std::int64_t>>());
  }
  outcome.dropped = reader.list<std::vector<std::int64_t>>();
  outcome.spans = reader.list<std::vector<Span>>();
  const auto checkpoints = reader.value<std::int64_t>();
  for (std::int64_t i = 0; reader.good() && i < checkpoints; ++i)
    outcome.checkpoints.push_back(read_checkpoint(reader));
  if (reader.value<bool>()) outcome.restored = read_restored(reader);
  return outcome;
}

/// Every rank's bytes, by rank.
Result<std::vector<std::vector<std::byte>>> exchange_bytes(Communicator& group, const std::vector<std::byte>& own) {
  const auto size = static_cast<std::size_t>(group.size());
  const std::vector<std::int64_t> own_size(size, static_cast<std::int64_t>(own.size()));
  const Result<std::vector<std::int64_t>> sizes = group.exchange(own_size);
  if (!sizes.ok()) return sizes.error();
  // Rows of four bytes, each rank's share rounded up.
  const auto rows = [](std::int64_t bytes) { return (bytes + 3) / 4; };
  std::vector<std::int32_t> send(static_cast<std::size_t>(rows(own_size[0])));
  if (!own.empty()) std::memcpy(send.data(), own.data(), own.size());
  std::vector<Segment> send_segments, receive_segments;
  std::int64_t total = 0;
  for (int peer = 0; peer < group.size(); ++peer) {
    const std::int64_t count = rows((*sizes)[static_cast<std::size_t>(peer)]);
    send_segments.push_back({peer, 0, static_cast<std::int64_t>(send.size())});
    receive_segments.push_back({peer, total, count});
    total += count;
  }
  std::vector<std::int32_t> receive(static_cast<std::size_t>(total));
  RETURN_IF_ERROR(group.all_to_all(Tensor(send.data(), DType::I32, {static_cast<std::int64_t>(send.size())}),
                                   send_segments, Tensor(receive.data(), DType::I32, {total}), receive_segments));
  std::vector<std::vector<std::byte>> out(size);
  for (std::size_t peer = 0; peer < size; ++peer) {
    out[peer].resize(static_cast<std::size_t>((*sizes)[peer]));
    if (!out[peer].empty())
      std::memcpy(out[peer].data(), receive.data() + receive_segments[peer].row, out[peer].size());
  }
  return out;
}

}  // namespace

std::vector<std::byte> to_bytes(const Contribution& contribution) {
  Writer writer;
  writer.value(contribution.stop);
  writer.value(contribution.failure.has_value());
  if (contribution.failure) {
    writer.value(contribution.failed_at);
    write(*contribution.failure, writer);
  }
  writer.value(contribution.outcome.has_value());
  if (contribution.outcome) write(*contribution.outcome, writer);
  return writer.take();
}

std::optional<Contribution> contribution_of(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  Contribution out;
  out.stop = reader.value<bool>();
  if (reader.value<bool>()) {
    out.failed_at = reader.value<Instant>();
    out.failure = read_error(reader);
  }
  if (reader.value<bool>()) out.outcome = read_outcome(reader);
  return reader.complete() ? std::optional(std::move(out)) : std::nullopt;
}

ProcessMeeting::ProcessMeeting(Director& director, Communicator& control, const Clock& clock,
                               const std::atomic<bool>& stop, std::atomic<bool>& agreed_stop,
                               std::function<void(const Error&)> lost)
    : director_(director),
      control_(control),
      clock_(clock),
      stop_(stop),
      agreed_stop_(agreed_stop),
      lost_(std::move(lost)),
      outcomes_(static_cast<std::size_t>(control.size())) {}

Task ProcessMeeting::arrive(Rank, std::optional<StepOutcome> outcome) {
  const Result<std::vector<std::vector<std::byte>>> all =
      exchange_bytes(control_, to_bytes(contribution(std::move(outcome))));
  if (!all.ok()) lost_(all.error());
  std::optional<Contribution> first_failed;
  for (std::size_t rank = 0; rank < outcomes_.size(); ++rank) {
    std::optional<Contribution> theirs = contribution_of((*all)[rank]);
    if (!theirs) {
      lost_({ErrorKind::RunFailed, fmt::format("rank {}", rank), "is not the same program"});
    }
    if (theirs->stop) agreed_stop_ = true;
    outcomes_[rank] = std::move(theirs->outcome);
    if (theirs->failure && (!first_failed || theirs->failed_at < first_failed->failed_at)) first_failed = theirs;
  }
  // Ranks that wait for one that failed fail soon after it: the first in time is the cause.
  if (first_failed) director_.fail(*first_failed->failure);
  return next_task(director_, outcomes_);
}

void ProcessMeeting::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (failure_) return;
  failure_ = error;
  failed_at_ = clock_.now();
}

Contribution ProcessMeeting::contribution(std::optional<StepOutcome> outcome) {
  const std::lock_guard lock(mutex_);
  return {stop_.load(), failed_at_, failure_, std::move(outcome)};
}

}  // namespace moecast
