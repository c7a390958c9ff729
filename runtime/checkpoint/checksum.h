#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace moecast {

/// CRC-32 (zlib's, ISO-HDLC): finds torn and garbled bytes, and every error burst of up to 32 bits for certain; it is
/// no protection against intent. `start` is the checksum of what came before.
[[nodiscard]] std::uint32_t crc32_of(std::span<const std::byte> data, std::uint32_t start = 0);

/// Eight hexadecimal digits, and back (lower case only).
[[nodiscard]] std::string to_hex(std::uint32_t checksum);
[[nodiscard]] std::optional<std::uint32_t> from_hex(std::string_view text);

}  // namespace moecast
