#include "runtime/comm/inproc.h"

#include <numeric>

#include <fmt/format.h>

#include "runtime/comm/inproc_copy.h"
#include "runtime/comm/inproc_meeting.h"

namespace moecast {
namespace {

class InprocCommunicator final : public Communicator {
 public:
  // Shared: the meeting lives as long as the last of its ranks.
  InprocCommunicator(std::shared_ptr<InprocMeeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}

  [[nodiscard]] std::string name() const override { return "inproc"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return meeting_->size(); }

  Status all_to_all(Tensor send, std::span<const Segment> send_segments, Tensor receive,
                    std::span<const Segment> receive_segments) override {
    check_segments(send, send_segments);
    check_segments(receive, receive_segments);
    const InprocCall call{CallKind::AllToAll, send, receive, send_segments, receive_segments};
    return take_part(call, [&](double& port_bytes) {
      port_bytes = segment_port_bytes(*meeting_, rank_);
      return copy_segments(*meeting_, rank_);
    });
  }

  Status all_reduce(Tensor buffer) override {
    return take_part({CallKind::AllReduce, buffer}, [&](double& port_bytes) -> Status {
      port_bytes = 2 * share_of_others() * buffer.bytes().value();
      sum_part_to_all(*meeting_, rank_);
      return {};
    });
  }

  Status reduce_scatter(Tensor buffer, Tensor shard) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    return take_part({CallKind::ReduceScatter, buffer, shard}, [&](double& port_bytes) -> Status {
      port_bytes = share_of_others() * buffer.bytes().value();
      sum_part_to_shard(*meeting_, rank_);
      return {};
    });
  }

  Status all_gather(Tensor shard, Tensor buffer) override {
    ASSERT(shard.dtype == buffer.dtype && shard.element_count() * size() == buffer.element_count());
    return take_part({CallKind::AllGather, shard, buffer}, [&](double& port_bytes) -> Status {
      port_bytes = share_of_others() * buffer.bytes().value();
      gather_shards(*meeting_, rank_);
      return {};
    });
  }

  Status broadcast(Tensor buffer, int root) override {
    ASSERT(0 <= root && root < size());
    InprocCall call{CallKind::Broadcast, buffer};
    call.root = root;
    return take_part(call, [&](double& port_bytes) -> Status {
      port_bytes = buffer.bytes().value();
      copy_from_root(*meeting_, rank_);
      return {};
    });
  }

  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> to_each_peer) override {
    ASSERT(static_cast<int>(to_each_peer.size()) == size());
    InprocCall call{CallKind::Exchange};
    call.values = to_each_peer;
    std::vector<std::int64_t> from_each_peer(to_each_peer.size());
    RETURN_IF_ERROR(take_part(call, [&](double& port_bytes) -> Status {
      port_bytes = static_cast<double>(sizeof(std::int64_t)) * (size() - 1);
      for (int peer = 0; peer < size(); ++peer) {
        from_each_peer[static_cast<std::size_t>(peer)] = meeting_->call(peer).values[static_cast<std::size_t>(rank_)];
      }
      return {};
    }));
    return from_each_peer;
  }

  Status barrier() override {
    return take_part({CallKind::Barrier}, [](double&) -> Status { return {}; });
  }

  Status check() override { return meeting_->check(); }

  void abort(const Error& reason) override {
    Error error = reason;
    error.place = fmt::format("{} group", meeting_->name());
    error.message = fmt::format("rank {} gave up: {}", meeting_->member(rank_).value(), reason.text());
    meeting_->fail(rank_, std::move(error));
  }

 private:
  /// Meets the peers, lets `move` copy (and say how many bytes go through this rank's port), and leaves with them.
  template <typename Move>
  Status take_part(const InprocCall& call, Move move) {
    RETURN_IF_ERROR(meeting_->join(rank_, call));
    double port_bytes = 0;
    Status moved = check_agreement(*meeting_);
    if (moved.ok()) moved = move(port_bytes);
    if (!moved.ok()) meeting_->fail(rank_, moved.error());
    return meeting_->leave(port_bytes, call.kind != CallKind::Barrier);
  }

  [[nodiscard]] double share_of_others() const { return static_cast<double>(size() - 1) / size(); }

  void check_segments(const Tensor& tensor, std::span<const Segment> segments) const {
    for (const Segment& segment : segments) {
      ASSERT(0 <= segment.peer && segment.peer < size(), "segment to rank {} of {}", segment.peer, size());
      ASSERT(segment.row >= 0 && segment.row_count >= 0 && segment.row + segment.row_count <= tensor.shape[0],
             "rows {} + {} of {}", segment.row, segment.row_count, tensor.shape[0]);
    }
  }

  std::shared_ptr<InprocMeeting> meeting_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_inproc_group(int size, const LinkOptions& options,
                                                             const std::string& name,
                                                             const std::vector<Rank>& members) {
  ASSERT(size >= 1, "a group of {} ranks", size);
  ASSERT(!options.pacing || options.pacing->bandwidth.value() > 0, "a paced link needs a bandwidth");
  std::vector<Rank> ranks = members;
  for (int i = 0; members.empty() && i < size; ++i) ranks.emplace_back(i);
  const auto meeting = std::make_shared<InprocMeeting>(size, options, name, ranks);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int i = 0; i < size; ++i) communicators.push_back(std::make_unique<InprocCommunicator>(meeting, i));
  return communicators;
}

}  // namespace moecast
