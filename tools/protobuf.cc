#include "tools/protobuf.h"

namespace moecast {
namespace {

constexpr std::uint32_t kVarint = 0, kLengthDelimited = 2;  // wire types

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(0x80 | (value & 0x7f));
  out += static_cast<char>(value);
}

}  // namespace

void ProtobufMessage::varint(std::uint32_t field, std::uint64_t value) {
  append_varint(bytes_, (field << 3) | kVarint);
  append_varint(bytes_, value);
}

void ProtobufMessage::text(std::uint32_t field, std::string_view value) {
  append_varint(bytes_, (field << 3) | kLengthDelimited);
  append_varint(bytes_, value.size());
  bytes_ += value;
}

void append_delimited(std::string& file, const ProtobufMessage& message) {
  append_varint(file, message.bytes().size());
  file += message.bytes();
}

}  // namespace moecast
