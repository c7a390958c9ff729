#include "runtime/comm/inproc_copy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "runtime/comm/segments.h"

namespace moecast {
namespace {

std::string describe(const InprocMeeting& meeting, int rank) {
  const InprocCall& call = meeting.call(rank);
  std::string text = fmt::format("rank {} calls {}", meeting.member(rank).value(), to_text(call.kind));
  if (sizes_must_agree(call.kind)) {
    text += fmt::format(" of {} elements of {} bytes", call.send.element_count(), bytes_per_element(call.send.dtype));
  }
  return text;
}

bool agree(const InprocCall& a, const InprocCall& b) {
  if (a.kind != b.kind || a.root != b.root) return false;
  if (!sizes_must_agree(a.kind)) return true;
  return a.send.dtype == b.send.dtype && a.send.element_count() == b.send.element_count();
}

/// Walks the segments of one list that concern one peer, in order.
class SegmentWalk {
 public:
  SegmentWalk(std::span<const Segment> segments, int peer) : segments_(segments), peer_(peer) {}
  /// The next one, or nullptr.
  const Segment* next() {
    while (index_ < segments_.size()) {
      const Segment& segment = segments_[index_++];
      if (segment.peer == peer_) return &segment;
    }
    return nullptr;
  }

 private:
  std::span<const Segment> segments_;
  int peer_;
  std::size_t index_ = 0;
};

/// Receives everything that `peer` sends to `rank`.
Status copy_from_peer(const InprocMeeting& meeting, int rank, int peer) {
  const InprocCall& mine = meeting.call(rank);
  const InprocCall& theirs = meeting.call(peer);
  SegmentWalk sent(theirs.send_segments, rank);
  SegmentWalk received(mine.receive_segments, peer);
  for (int index = 0;; ++index) {
    const Segment* from = sent.next();
    const Segment* to = received.next();
    if (from == nullptr && to == nullptr) return {};
    const std::int64_t sent_rows = from == nullptr ? 0 : from->row_count;
    const std::int64_t expected_rows = to == nullptr ? 0 : to->row_count;
    const bool moves = sent_rows > 0;
    if (sent_rows != expected_rows || (moves && row_bytes(theirs.send) != row_bytes(mine.receive))) {
      return Error{ErrorKind::RunFailed, "",
                   fmt::format("all_to_all: segment {} from rank {} has {} rows of {} bytes, rank {} expects {} of {}",
                               index, meeting.member(peer).value(), sent_rows, row_bytes(theirs.send),
                               meeting.member(rank).value(), expected_rows, row_bytes(mine.receive))};
    }
    if (!moves) continue;
    std::memcpy(row_pointer(mine.receive, to->row), row_pointer(theirs.send, from->row),
                static_cast<std::size_t>(sent_rows * row_bytes(mine.receive)));
  }
}

// Sums go through a block that stays in the first-level cache.
constexpr std::int64_t kBlock = 1024;

/// block[i] = sum over ranks, in rank order, of element begin + i of their send buffers.
template <typename T>
void sum_block(const InprocMeeting& meeting, std::int64_t begin, std::int64_t count, T* block) {
  const T* first = meeting.call(0).send.as<T>() + begin;
  std::copy(first, first + count, block);
  for (int peer = 1; peer < meeting.size(); ++peer) {
    const T* source = meeting.call(peer).send.as<T>() + begin;
    for (std::int64_t i = 0; i < count; ++i) block[i] += source[i];
  }
}

template <typename T>
void sum_part_to_all_as(const InprocMeeting& meeting, int rank) {
  const std::int64_t total = meeting.call(rank).send.element_count();
  const std::int64_t part_begin = total * rank / meeting.size();
  const std::int64_t part_end = total * (rank + 1) / meeting.size();
  std::array<T, kBlock> block;
  for (std::int64_t begin = part_begin; begin < part_end; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, part_end - begin);
    sum_block(meeting, begin, count, block.data());
    for (int peer = 0; peer < meeting.size(); ++peer) {
      std::copy(block.data(), block.data() + count, meeting.call(peer).send.as<T>() + begin);
    }
  }
}

template <typename T>
void sum_part_to_shard_as(const InprocMeeting& meeting, int rank) {
  const Tensor& shard = meeting.call(rank).receive;
  const std::int64_t part_begin = shard.element_count() * rank;
  std::array<T, kBlock> block;
  for (std::int64_t begin = 0; begin < shard.element_count(); begin += kBlock) {
    const std::int64_t count = std::min(kBlock, shard.element_count() - begin);
    sum_block(meeting, part_begin + begin, count, block.data());
    std::copy(block.data(), block.data() + count, shard.as<T>() + begin);
  }
}

}  // namespace

Status check_agreement(const InprocMeeting& meeting) {
  for (int peer = 1; peer < meeting.size(); ++peer) {
    if (!agree(meeting.call(0), meeting.call(peer))) {
      return Error{ErrorKind::RunFailed, meeting.name() + " group",
                   fmt::format("the ranks disagree: {}, {}", describe(meeting, 0), describe(meeting, peer))};
    }
  }
  return {};
}

Status copy_segments(const InprocMeeting& meeting, int rank) {
  // Begin with the next rank, so that peers do not all read the same memory at once.
  for (int offset = 1; offset <= meeting.size(); ++offset) {
    RETURN_IF_ERROR(copy_from_peer(meeting, rank, (rank + offset) % meeting.size()));
  }
  return {};
}

double segment_port_bytes(const InprocMeeting& meeting, int rank) {
  const InprocCall& call = meeting.call(rank);
  return std::max(foreign_bytes(call.send_segments, call.send, rank),
                  foreign_bytes(call.receive_segments, call.receive, rank));
}

void sum_part_to_all(const InprocMeeting& meeting, int rank) {
  switch (meeting.call(rank).send.dtype) {
    case DType::F32:
      return sum_part_to_all_as<float>(meeting, rank);
    case DType::F64:
      return sum_part_to_all_as<double>(meeting, rank);
    case DType::I32:
      return sum_part_to_all_as<std::int32_t>(meeting, rank);
    case DType::BF16:
      break;
  }
  ASSERT(false, "sums of BF16 are not supported in host memory");
}

void sum_part_to_shard(const InprocMeeting& meeting, int rank) {
  switch (meeting.call(rank).send.dtype) {
    case DType::F32:
      return sum_part_to_shard_as<float>(meeting, rank);
    case DType::F64:
      return sum_part_to_shard_as<double>(meeting, rank);
    case DType::I32:
      return sum_part_to_shard_as<std::int32_t>(meeting, rank);
    case DType::BF16:
      break;
  }
  ASSERT(false, "sums of BF16 are not supported in host memory");
}

void gather_shards(const InprocMeeting& meeting, int rank) {
  char* buffer = static_cast<char*>(meeting.call(rank).receive.data);
  for (int peer = 0; peer < meeting.size(); ++peer) {
    const Tensor& shard = meeting.call(peer).send;
    char* place = buffer + peer * shard.bytes().count();
    if (place != shard.data) std::memcpy(place, shard.data, static_cast<std::size_t>(shard.bytes().count()));
  }
}

void copy_from_root(const InprocMeeting& meeting, int rank) {
  const InprocCall& call = meeting.call(rank);
  if (rank == call.root) return;
  std::memcpy(call.send.data, meeting.call(call.root).send.data, static_cast<std::size_t>(call.send.bytes().count()));
}

}  // namespace moecast
