#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "runtime/tensor.h"

namespace moecast {

/// A contiguous run of rows that goes to (or comes from) one peer. The i-th segment that rank a sends to rank b meets
/// the i-th segment that b receives from a; their sizes must agree. Segments to oneself are local copies.
struct Segment {
  int peer = 0;
  std::int64_t row = 0;        // first row of the tensor's first dimension
  std::int64_t row_count = 0;  // may be zero: every rank still takes part
};

/// One group of ranks that talk to each other. Every rank of the group issues the same sequence of calls. On an
/// asynchronous backend a call is queued on the communicator's stream; otherwise it returns when the data has arrived.
/// After an error the communicator is closed: every later call returns the first error. The ranks of a group fail
/// together: within the timeout, a missing or failed peer is reported by its rank number.
class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual std::string name() const = 0;  // "inproc", "mpi", "nccl", "staged"
  [[nodiscard]] virtual int rank() const = 0;          // position in this group
  [[nodiscard]] virtual int size() const = 0;

  /// Row segments of `send` travel to their peers and land in segments of `receive` (same dtype, same row size).
  [[nodiscard]] virtual Status all_to_all(Tensor send, std::span<const Segment> send_segments, Tensor receive,
                                          std::span<const Segment> receive_segments) = 0;
  /// buffer = sum over ranks, added in rank order: the same bits on every rank. F32, F64 (BF16 where supported).
  [[nodiscard]] virtual Status all_reduce(Tensor buffer) = 0;
  /// shard = the rank-th of size() equal parts of the sum over ranks of buffer (element count divisible by size()).
  [[nodiscard]] virtual Status reduce_scatter(Tensor buffer, Tensor shard) = 0;
  /// buffer = shards of all ranks in rank order.
  [[nodiscard]] virtual Status all_gather(Tensor shard, Tensor buffer) = 0;
  [[nodiscard]] virtual Status broadcast(Tensor buffer, int root) = 0;
  /// Small host values: element i of the result came from rank i. Blocks the host on every backend.
  [[nodiscard]] virtual Result<std::vector<std::int64_t>> exchange(std::span<const std::int64_t> to_each_peer) = 0;
  [[nodiscard]] virtual Status barrier() = 0;

  /// What has closed the group, or will close it at the next call: a peer has given up or is gone. Never waits; may be
  /// called from any thread.
  [[nodiscard]] virtual Status check() = 0;
  /// Gives up: peers that wait for this rank get an error that carries `reason`. May be called from any thread.
  virtual void abort(const Error& reason) = 0;
};

/// What went wrong on this rank before the ranks work together, or that it went wrong on another: nobody goes on alone.
[[nodiscard]] Status share_failure(Communicator& group, const Status& own);

/// A deliberately slow link so that overlap can be exercised on one machine: a transfer of n bytes per rank that leave
/// the rank takes at least latency + n / bandwidth from the moment when all ranks of the group have entered. A paced
/// run says so in everything it writes.
struct PacedLink {
  Duration latency{};
  BytesPerSecond bandwidth{0};
};

}  // namespace moecast
