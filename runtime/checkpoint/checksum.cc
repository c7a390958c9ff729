#include "runtime/checkpoint/checksum.h"

#include <fmt/format.h>
#include <zlib.h>

namespace moecast {

std::uint32_t crc32_of(std::span<const std::byte> data, std::uint32_t start) {
  if (data.empty()) return start;
  return static_cast<std::uint32_t>(::crc32_z(start, reinterpret_cast<const unsigned char*>(data.data()), data.size()));
}

std::string to_hex(std::uint32_t checksum) { return fmt::format("{:08x}", checksum); }

std::optional<std::uint32_t> from_hex(std::string_view text) {
  if (text.size() != 8) return std::nullopt;
  std::uint32_t value = 0;
  for (const char digit : text) {
    if (digit >= '0' && digit <= '9') {
      value = value << 4 | static_cast<std::uint32_t>(digit - '0');
    } else if (digit >= 'a' && digit <= 'f') {
      value = value << 4 | static_cast<std::uint32_t>(digit - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return value;
}

}  // namespace moecast
