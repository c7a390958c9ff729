#include "runtime/cpu/scratch.h"

#include <new>

namespace moecast::cpu {
namespace {
constexpr std::align_val_t kAlignment{64};
}

void Scratch::Release::operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }

void* Scratch::reserve(Slot slot, std::size_t bytes) {
  Buffer& buffer = buffers_[static_cast<std::size_t>(slot)];
  if (buffer.size < bytes) {
    buffer.memory.reset();
    buffer.memory.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
    buffer.size = bytes;
  }
  return buffer.memory.get();
}

}  // namespace moecast::cpu
