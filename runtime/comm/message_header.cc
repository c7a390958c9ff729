#include "runtime/comm/message_header.h"

#include <fmt/format.h>

namespace moecast {

bool agree(const MessageHeader& a, const MessageHeader& b) {
  if (a.kind != b.kind || a.root != b.root || a.call != b.call) return false;
  return !sizes_must_agree(a.kind) || (a.elements == b.elements && a.dtype == b.dtype);
}

std::string describe(const MessageHeader& header, Rank rank) {
  std::string text = fmt::format("rank {} calls {} as number {}", rank.value(), to_text(header.kind), header.call);
  if (sizes_must_agree(header.kind)) {
    text += fmt::format(" of {} elements of {} bytes", header.elements, bytes_per_element(header.dtype));
  }
  return text;
}

}  // namespace moecast
