#include "tools/sweep_processes.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "sim/parallel.h"
#include "sim/sweep/sweep_row_text.h"

namespace moecast {
namespace {

using Channel = Transport::Channel;

constexpr std::size_t kMostInBatch = 64;
constexpr auto kPoll = std::chrono::microseconds(200);

/// From a follower: what it has done since it last asked. Sent whenever it wants work.
struct Asking {
  std::uint64_t sweep = 0;   // hash
  std::uint64_t bytes = 0;   // of the text that follows: a row each line
  std::uint64_t failed = 0;  // the text is an error instead
};
/// To a follower: how many requests follow; none: go.
struct Answer {
  std::uint64_t count = 0;
};

void wait_for(Transport& transport, Transport::Ticket ticket) {
  while (!transport.done(ticket)) std::this_thread::sleep_for(kPoll);
}

std::string text_of(const std::vector<SweepRow>& rows) {
  std::string out;
  for (const SweepRow& row : rows) out += to_text(row) + '\n';
  return out;
}

}  // namespace

/// What the first rank knows of another one.
class SweepProcesses::Peer {
 public:
  Peer(Transport& transport, int rank) : transport_(transport), rank_(rank) { listen(); }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] bool idle() const { return state_ == State::Idle; }
  [[nodiscard]] const Asking& asking() const { return asking_; }

  /// The text that came with a request for work, once it is whole; then the peer is idle.
  std::optional<std::string> poll() {
    if (state_ == State::Answered && transport_.done(ticket_)) {
      if (!batch_.empty() && !transport_.done(batch_ticket_)) {
        wait_for(transport_, batch_ticket_);  // the same message's other half
      }
      listen();
    }
    if (state_ == State::Listening && transport_.done(ticket_)) {
      text_.assign(asking_.bytes, '\0');
      state_ = State::Receiving;
      if (asking_.bytes > 0) ticket_ = transport_.receive(rank_, Channel::Data, text_.data(), text_.size());
    }
    if (state_ != State::Receiving || (asking_.bytes > 0 && !transport_.done(ticket_))) return std::nullopt;
    state_ = State::Idle;
    return std::move(text_);
  }

  /// Only to an idle peer. An empty batch lets it go.
  void answer(std::vector<SweepRequest> batch) {
    batch_ = std::move(batch);
    answer_.count = batch_.size();
    ticket_ = transport_.send(rank_, Channel::Header, &answer_, sizeof answer_);
    if (!batch_.empty()) {
      batch_ticket_ = transport_.send(rank_, Channel::Data, batch_.data(), batch_.size() * sizeof batch_.front());
    }
    state_ = State::Answered;
  }

  void let_go() {
    while (!idle()) {
      static_cast<void>(poll());
      if (!idle()) std::this_thread::sleep_for(kPoll);
    }
    answer({});
    wait_for(transport_, ticket_);
  }

 private:
  enum class State { Listening, Receiving, Idle, Answered };

  void listen() {
    ticket_ = transport_.receive(rank_, Channel::Header, &asking_, sizeof asking_);
    state_ = State::Listening;
  }

  Transport& transport_;
  int rank_;
  State state_ = State::Listening;
  Transport::Ticket ticket_ = 0, batch_ticket_ = 0;
  Asking asking_;
  Answer answer_;
  std::string text_;
  std::vector<SweepRequest> batch_;
};

/// One call of evaluate: what is left, shared by the threads of the first rank.
struct SweepProcesses::Round {
  const TakeRow& take;
  const std::function<bool()>& stop;
  std::span<const SweepRequest> left;
  std::size_t workers = 1;    // threads of all ranks, if the others have as many
  std::size_t in_flight = 0;  // batches at other ranks
  std::optional<Error> failed = std::nullopt;
  std::mutex mutex = {};

  /// The next batch; empty if there is none. Called with the mutex held.
  std::vector<SweepRequest> next(std::size_t most) {
    if (failed || stop()) left = {};
    const std::size_t fair = left.size() / (4 * workers);
    const std::size_t count = std::min({std::max<std::size_t>(1, fair), most, left.size()});
    std::vector<SweepRequest> batch(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count));
    left = left.subspan(count);
    return batch;
  }
  void fail(Error error) {
    if (!failed) failed = std::move(error);
  }
  void accept(SweepRow row) {
    if (failed) return;
    const Status status = take(std::move(row));
    if (!status.ok()) fail(status.error());
  }
};

SweepProcesses::SweepProcesses(Transport& transport, const SweepSpec& spec, const std::vector<SweepPoint>& points,
                               unsigned threads)
    : transport_(transport), spec_(spec), points_(points), threads_(threads), hash_(sweep_hash(spec, points, "")) {
  for (int rank = 1; rank < transport.size(); ++rank) peers_.push_back(std::make_unique<Peer>(transport, rank));
}

SweepProcesses::~SweepProcesses() {
  for (const std::unique_ptr<Peer>& peer : peers_) peer->let_go();
}

void SweepProcesses::work(Round& round) {
  for (;;) {
    std::vector<SweepRequest> batch;
    {
      const std::scoped_lock lock(round.mutex);
      batch = round.next(1);
    }
    if (batch.empty()) return;
    Result<SweepRow> row = evaluate_point(spec_, points_, batch.front(), 1, round.stop);
    const std::scoped_lock lock(round.mutex);
    if (row.ok()) {
      round.accept(std::move(row).value());
    } else {
      round.fail(row.error());
    }
  }
}

namespace {

/// Takes the rows of a follower's text; false if some line is none.
template <typename Accept>
bool read_rows(const std::string& text, std::size_t metric_count, Accept accept) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::optional<SweepRow> row = row_of_text(std::string_view(text).substr(at, end - at), metric_count);
    if (!row) return false;
    accept(*std::move(row));
    at = end + 1;
  }
  return true;
}

}  // namespace

void SweepProcesses::serve(Round& round) {
  const std::size_t metric_count = sweep_metrics(spec_.kind).size();
  std::vector<bool> busy(peers_.size());
  for (;;) {
    bool moved = false;
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      Peer& peer = *peers_[i];
      const std::optional<std::string> text = peer.poll();
      const std::scoped_lock lock(round.mutex);
      if (text) {
        moved = true;
        if (busy[i]) --round.in_flight;
        busy[i] = false;
        const std::string who = fmt::format("rank {}", peer.rank());
        if (peer.asking().sweep != hash_) {
          round.fail({ErrorKind::BadInput, who, "has read another sweep file"});
        } else if (peer.asking().failed != 0) {
          round.fail({ErrorKind::BadInput, who, *text});
        } else if (!read_rows(*text, metric_count, [&](SweepRow row) { round.accept(std::move(row)); })) {
          round.fail({ErrorKind::RunFailed, who, "sent no rows but other text"});
        }
      }
      if (!peer.idle()) continue;
      std::vector<SweepRequest> batch = round.next(kMostInBatch);
      if (batch.empty()) continue;
      moved = true;
      busy[i] = true;
      ++round.in_flight;
      peer.answer(std::move(batch));
    }
    {
      const std::scoped_lock lock(round.mutex);
      if (round.left.empty() && round.in_flight == 0) return;
    }
    if (!moved) std::this_thread::sleep_for(kPoll);
  }
}

Status SweepProcesses::evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                                const std::function<bool()>& stop) {
  Round round{take, stop, requests};
  round.workers = threads_ * static_cast<std::size_t>(transport_.size());
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < threads_; ++i) threads.emplace_back([&] { work(round); });
  serve(round);
  for (std::thread& thread : threads) thread.join();
  return round.failed ? Status(*round.failed) : Status();
}

Status follow_sweep(Transport& transport, const SweepSpec& spec, const std::vector<SweepPoint>& points,
                    unsigned threads, const std::function<bool()>& stop) {
  SweepThreads workers(spec, points, threads);
  const std::uint64_t sweep = sweep_hash(spec, points, "");
  std::string text;
  bool failed = false;
  for (;;) {
    const Asking asking{sweep, text.size(), failed ? 1U : 0U};
    const Transport::Ticket asked = transport.send(0, Channel::Header, &asking, sizeof asking);
    if (!text.empty()) wait_for(transport, transport.send(0, Channel::Data, text.data(), text.size()));
    wait_for(transport, asked);
    Answer answer;
    wait_for(transport, transport.receive(0, Channel::Header, &answer, sizeof answer));
    if (answer.count == 0) return {};
    std::vector<SweepRequest> batch(answer.count);
    wait_for(transport, transport.receive(0, Channel::Data, batch.data(), batch.size() * sizeof batch.front()));
    std::vector<SweepRow> rows;
    const TakeRow take = [&](SweepRow row) -> Status {
      rows.push_back(std::move(row));
      return {};
    };
    const Status status = workers.evaluate(batch, take, stop);
    failed = !status.ok() && status.error().kind != ErrorKind::Interrupted;
    text = failed ? status.error().text() : text_of(rows);
  }
}

}  // namespace moecast
