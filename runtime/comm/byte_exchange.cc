#include "runtime/comm/byte_exchange.h"

namespace moecast {

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

}  // namespace moecast
