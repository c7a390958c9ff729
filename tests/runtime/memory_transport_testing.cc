#include "tests/runtime/memory_transport_testing.h"

#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>

#include "base/assert.h"

namespace moecast::testing {
namespace {

using Channel = Transport::Channel;

struct Transfer {
  const void* source = nullptr;
  void* destination = nullptr;
  std::size_t bytes = 0;
  std::vector<char> copy;  // of the source, without rendezvous
  bool taken = false;
};
using SharedTransfer = std::shared_ptr<Transfer>;

/// What travels between two ranks on a channel: the older of both queues meet.
struct Wire {
  std::deque<SharedTransfer> sends, receives;
};

struct Network {
  explicit Network(int size_, bool rendezvous_) : size(size_), rendezvous(rendezvous_) {}
  const int size;
  const bool rendezvous;
  std::mutex mutex;
  std::map<std::tuple<int, int, Channel>, Wire> wires;  // from, to

  void match(Wire& wire) {
    while (!wire.sends.empty() && !wire.receives.empty()) {
      const SharedTransfer from = wire.sends.front(), to = wire.receives.front();
      wire.sends.pop_front();
      wire.receives.pop_front();
      ASSERT(from->bytes == to->bytes, "{} bytes sent, {} expected", from->bytes, to->bytes);
      std::memcpy(to->destination, from->source, from->bytes);
      from->taken = to->taken = true;
    }
  }
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(std::shared_ptr<Network> network, int rank) : network_(std::move(network)), rank_(rank) {}
  [[nodiscard]] std::string name() const override { return "memory"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return network_->size; }

  Ticket send(int peer, Channel channel, const void* data, std::size_t bytes) override {
    auto transfer = std::make_shared<Transfer>();
    transfer->bytes = bytes;
    transfer->source = data;
    if (!network_->rendezvous || channel == Channel::Abort) {
      transfer->copy.assign(static_cast<const char*>(data), static_cast<const char*>(data) + bytes);
      transfer->source = transfer->copy.data();
    }
    const std::lock_guard lock(network_->mutex);
    Wire& wire = network_->wires[{rank_, peer, channel}];
    wire.sends.push_back(transfer);
    network_->match(wire);
    return keep(transfer, transfer->copy.empty());
  }
  Ticket receive(int peer, Channel channel, void* data, std::size_t bytes) override {
    auto transfer = std::make_shared<Transfer>();
    transfer->bytes = bytes;
    transfer->destination = data;
    const std::lock_guard lock(network_->mutex);
    Wire& wire = network_->wires[{peer, rank_, channel}];
    wire.receives.push_back(transfer);
    network_->match(wire);
    return keep(transfer, true);
  }
  bool done(Ticket ticket) override {
    const std::lock_guard lock(network_->mutex);
    const auto found = open_.find(ticket);
    ASSERT(found != open_.end(), "a ticket is asked for after its end");
    if (found->second.waits && !found->second.transfer->taken) return false;
    open_.erase(found);
    return true;
  }
  [[nodiscard]] bool lost(Ticket) const override { return false; }
  void cancel(Ticket ticket) override {
    const std::lock_guard lock(network_->mutex);
    const SharedTransfer transfer = open_.at(ticket).transfer;
    open_.erase(ticket);
    for (auto& [place, wire] : network_->wires) {
      std::erase(wire.receives, transfer);
      std::erase(wire.sends, transfer);
    }
  }

 private:
  struct Open {
    SharedTransfer transfer;
    bool waits = false;  // for the other side
  };
  Ticket keep(SharedTransfer transfer, bool waits) {
    open_[next_] = {std::move(transfer), waits};
    return next_++;
  }

  std::shared_ptr<Network> network_;
  int rank_;
  Ticket next_ = 0;
  std::map<Ticket, Open> open_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> make_memory_network(int size, bool rendezvous) {
  const auto network = std::make_shared<Network>(size, rendezvous);
  std::vector<std::unique_ptr<Transport>> ends;
  for (int rank = 0; rank < size; ++rank) ends.push_back(std::make_unique<MemoryTransport>(network, rank));
  return ends;
}

}  // namespace moecast::testing
