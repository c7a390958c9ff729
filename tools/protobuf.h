#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moecast {

/// Writes one message in the protobuf wire format (protobuf.dev, "Encoding"): as much of it as traces need.
class ProtobufMessage {
 public:
  void varint(std::uint32_t field, std::uint64_t value);
  void text(std::uint32_t field, std::string_view value);
  void message(std::uint32_t field, const ProtobufMessage& value) { text(field, value.bytes()); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Adds a message behind its length, as files of many messages have it.
void append_delimited(std::string& file, const ProtobufMessage& message);

}  // namespace moecast
