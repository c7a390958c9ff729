#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "runtime/communicator.h"

namespace moecast {

// Values as bytes, for processes of one program on machines of one kind.

class ByteWriter {
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

/// Reads what a ByteWriter wrote; after an end that comes too early everything is zero, and `good` false.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

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

/// Every rank's bytes, by rank. All ranks of a group in host memory call it.
[[nodiscard]] Result<std::vector<std::vector<std::byte>>> exchange_bytes(Communicator& group,
                                                                         const std::vector<std::byte>& own);

}  // namespace moecast
