#include "runtime/comm/staged.h"

#include <vector>

#include "runtime/comm/segments.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Comm;

/// Pinned memory that only grows.
class StagingBuffer {
 public:
  explicit StagingBuffer(Backend& backend) : backend_(backend) {}

  /// Memory for a tensor of this type and shape; the last one is gone.
  Result<Tensor> like(const Tensor& device) {
    if (memory_ == nullptr || memory_->size() < device.bytes()) {
      Result<std::unique_ptr<DeviceMemory>> memory = backend_.allocate_host(std::max(device.bytes(), Bytes(1)));
      if (!memory.ok()) return memory.error();
      backend_.synchronize(kLane);  // copies may still use the old one
      memory_ = std::move(memory).value();
    }
    Tensor host = device;
    host.data = memory_->data();
    return host;
  }

 private:
  Backend& backend_;
  std::unique_ptr<DeviceMemory> memory_;
};

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(Communicator& host, Backend& backend)
      : host_(host), backend_(backend), send_(backend), receive_(backend) {}

  [[nodiscard]] std::string name() const override { return "staged"; }
  [[nodiscard]] int rank() const override { return host_.rank(); }
  [[nodiscard]] int size() const override { return host_.size(); }

  Status all_to_all(Tensor send, std::span<const Segment> send_segments, Tensor receive,
                    std::span<const Segment> receive_segments) override {
    const Result<Tensor> sent = send_.like(send);
    if (!sent.ok()) return sent.error();
    const Result<Tensor> received = receive_.like(receive);
    if (!received.ok()) return received.error();
    keep_foreign(send_segments, foreign_sends_);
    keep_foreign(receive_segments, foreign_receives_);
    copy_own(send, send_segments, receive, receive_segments);
    for (const Segment& each : foreign_sends_) download(rows_of(*sent, each), rows_of(send, each));
    backend_.synchronize(kLane);
    RETURN_IF_ERROR(host_.all_to_all(*sent, foreign_sends_, *received, foreign_receives_));
    for (const Segment& each : foreign_receives_) upload(rows_of(receive, each), rows_of(*received, each));
    return {};
  }

  Status all_reduce(Tensor buffer) override {
    return through_host(buffer, buffer, [&](const Tensor& host, const Tensor&) { return host_.all_reduce(host); });
  }
  Status reduce_scatter(Tensor buffer, Tensor shard) override {
    return through_host(buffer, shard,
                        [&](const Tensor& from, const Tensor& to) { return host_.reduce_scatter(from, to); });
  }
  Status all_gather(Tensor shard, Tensor buffer) override {
    return through_host(shard, buffer,
                        [&](const Tensor& from, const Tensor& to) { return host_.all_gather(from, to); });
  }
  Status broadcast(Tensor buffer, int root) override {
    return through_host(buffer, buffer, [&](const Tensor& host, const Tensor&) { return host_.broadcast(host, root); });
  }
  Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> to_each_peer) override {
    return host_.exchange(to_each_peer);
  }
  Status barrier() override { return host_.barrier(); }
  Status check() override { return host_.check(); }
  void abort(const Error& reason) override { host_.abort(reason); }

 private:
  static Tensor rows_of(const Tensor& tensor, const Segment& segment) {
    return tensor.slice(segment.row, segment.row + segment.row_count);
  }
  void download(const Tensor& host, const Tensor& device) {
    if (device.element_count() > 0) backend_.download(kLane, host.data, device);
  }
  void upload(const Tensor& device, const Tensor& host) {
    if (device.element_count() > 0) backend_.upload(kLane, device, host.data);
  }

  void keep_foreign(std::span<const Segment> segments, std::vector<Segment>& foreign) const {
    foreign.clear();
    for (const Segment& each : segments) {
      if (each.peer != rank()) foreign.push_back(each);
    }
  }

  void copy_own(const Tensor& send, std::span<const Segment> send_segments, const Tensor& receive,
                std::span<const Segment> receive_segments) {
    for_own_pairs(send_segments, receive_segments, rank(), [&](const Segment& from, const Segment& to) {
      if (from.row_count > 0) backend_.copy(kLane, rows_of(receive, to), rows_of(send, from));
    });
  }

  /// `move` takes what is in `from` to what belongs into `to`, both in host memory; the same memory if they are the
  /// same tensor.
  template <typename Move>
  Status through_host(const Tensor& from, const Tensor& to, Move move) {
    const Result<Tensor> sent = send_.like(from);
    if (!sent.ok()) return sent.error();
    const bool in_place = from.data == to.data && from.bytes() == to.bytes();
    const Result<Tensor> received = in_place ? sent : receive_.like(to);
    if (!received.ok()) return received.error();
    download(*sent, from);
    backend_.synchronize(kLane);
    RETURN_IF_ERROR(move(*sent, *received));
    upload(to, *received);
    return {};
  }

  Communicator& host_;
  Backend& backend_;
  StagingBuffer send_, receive_;
  std::vector<Segment> foreign_sends_, foreign_receives_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(Communicator& host, Backend& backend) {
  return std::make_unique<StagedCommunicator>(host, backend);
}

Groups stage(const Groups& host, Backend& backend) {
  Groups staged;
  for (const auto& [group, name] : kGroupNames) {
    staged.set(group, make_staged_communicator(host.at(group), backend));
  }
  return staged;
}

}  // namespace moecast
