#pragma once

#include <cstdint>
#include <span>

#include "runtime/communicator.h"

namespace moecast {

/// Bytes of one row of the first dimension; 0 of a tensor without rows.
[[nodiscard]] inline std::int64_t row_bytes(const Tensor& tensor) {
  return tensor.shape[0] == 0 ? 0 : tensor.bytes().count() / tensor.shape[0];
}

[[nodiscard]] inline char* row_pointer(const Tensor& tensor, std::int64_t row) {
  return static_cast<char*>(tensor.data) + row * row_bytes(tensor);
}

/// Bytes of the segments that concern other ranks than `rank`.
[[nodiscard]] inline double foreign_bytes(std::span<const Segment> segments, const Tensor& tensor, int rank) {
  std::int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.peer == rank ? 0 : segment.row_count;
  return static_cast<double>(rows * row_bytes(tensor));
}

/// Calls body(sent, received) for the segments that a rank sends to itself, in order.
template <typename Body>
void for_own_pairs(std::span<const Segment> send, std::span<const Segment> receive, int rank, Body body) {
  auto to = receive.begin();
  for (const Segment& from : send) {
    if (from.peer != rank) continue;
    while (to != receive.end() && to->peer != rank) ++to;
    ASSERT(to != receive.end() && to->row_count == from.row_count, "the segments that rank {} sends itself differ",
           rank);
    body(from, *to++);
  }
}

}  // namespace moecast
