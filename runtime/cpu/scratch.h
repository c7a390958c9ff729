#pragma once

#include <array>
#include <cstddef>
#include <memory>

namespace moecast::cpu {

/// Work memory of one lane: grows on first use of a size, then stays. One slot holds one live buffer, so a kernel that
/// calls another kernel uses a slot of its own. Not shared between threads.
class Scratch {
 public:
  enum class Slot { Pack, Work };  // Pack: operands of a matrix product. Work: everything else.

  /// At least `bytes` of memory aligned to 64 bytes; contents undefined. Ends the life of the slot's previous buffer.
  [[nodiscard]] void* reserve(Slot slot, std::size_t bytes);

 private:
  struct Release {
    void operator()(std::byte* memory) const;
  };
  struct Buffer {
    std::unique_ptr<std::byte, Release> memory;
    std::size_t size = 0;
  };
  std::array<Buffer, 2> buffers_;
};

}  // namespace moecast::cpu
