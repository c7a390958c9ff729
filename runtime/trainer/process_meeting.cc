#include "runtime/trainer/process_meeting.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/comm/byte_exchange.h"

namespace moecast {
namespace {

static_assert(std::is_trivially_copyable_v<Span>);

void write(const Error& error, ByteWriter& writer) {
  writer.value(error.kind);
  writer.list(error.place);
  writer.list(error.message);
}

Error read_error(ByteReader& reader) {
  Error error;
  error.kind = reader.value<ErrorKind>();
  error.place = reader.list<std::string>();
  error.message = reader.list<std::string>();
  return error;
}

/// All of an outcome but its error, which travels behind it.
void write(const CheckpointOutcome& outcome, ByteWriter& writer) {
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

CheckpointOutcome read_checkpoint(ByteReader& reader) {
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

void write(const RestoredRank& restored, ByteWriter& writer) {
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

RestoredRank read_restored(ByteReader& reader) {
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

void write(const StepOutcome& outcome, ByteWriter& writer) {
  writer.value(outcome.loss_sum);
  writer.value(outcome.token_count);
  writer.value(outcome.balance_loss);
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

StepOutcome read_outcome(ByteReader& reader) {
  StepOutcome outcome;
  outcome.loss_sum = reader.value<double>();
  outcome.token_count = reader.value<std::int64_t>();
  outcome.balance_loss = reader.value<double>();
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

}  // namespace

std::vector<std::byte> to_bytes(const Contribution& contribution) {
  ByteWriter writer;
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
  ByteReader reader(bytes);
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
  if (!all.ok()) return end_alone(all.error());
  std::optional<Contribution> first_failed;
  for (std::size_t rank = 0; rank < outcomes_.size(); ++rank) {
    std::optional<Contribution> theirs = contribution_of((*all)[rank]);
    if (!theirs) return end_alone({ErrorKind::RunFailed, fmt::format("rank {}", rank), "is not the same program"});
    if (theirs->stop) agreed_stop_ = true;
    outcomes_[rank] = std::move(theirs->outcome);
    if (theirs->failure && (!first_failed || theirs->failed_at < first_failed->failed_at)) first_failed = theirs;
  }
  // Ranks that wait for one that failed fail soon after it: the first in time is the cause.
  if (first_failed) director_.fail(*first_failed->failure);
  return next_task(director_, outcomes_);
}

Task ProcessMeeting::end_alone(const Error& error) {
  lost_(error);
  {
    const std::lock_guard lock(mutex_);
    director_.fail(failure_.value_or(error));  // what this rank saw first says more
  }
  std::fill(outcomes_.begin(), outcomes_.end(), std::nullopt);
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
