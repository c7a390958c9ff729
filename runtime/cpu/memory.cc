#include <chrono>
#include <cstring>
#include <new>

#include "runtime/cpu/cpu_backend_class.h"

namespace moecast::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};  // a cache line, and the widest vector register

class HostMemory final : public DeviceMemory {
 public:
  HostMemory(void* data, Bytes size) : data_(data), size_(size) {}
  ~HostMemory() override { ::operator delete(data_, kAlignment); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  void* data() const override { return data_; }
  Bytes size() const override { return size_; }

 private:
  void* data_;
  Bytes size_;
};

}  // namespace

Result<std::unique_ptr<DeviceMemory>> CpuBackend::allocate(Bytes size) {
  ASSERT(size.count() >= 0, "{} bytes", size.count());
  void* data = ::operator new(static_cast<std::size_t>(size.count()), kAlignment, std::nothrow);
  if (data == nullptr) {
    return Error{ErrorKind::RunFailed, "cpu", fmt::format("out of memory: {} bytes asked for", size.count())};
  }
  return std::unique_ptr<DeviceMemory>(std::make_unique<HostMemory>(data, size));
}

Result<std::unique_ptr<DeviceMemory>> CpuBackend::allocate_host(Bytes size) { return allocate(size); }

void CpuBackend::copy(Lane lane, Tensor destination, Tensor source) {
  ASSERT(destination.dtype == source.dtype);
  ASSERT(destination.element_count() == source.element_count(), "{} elements from {}", destination.element_count(),
         source.element_count());
  upload(lane, destination, source.data);
}

void CpuBackend::upload(Lane, Tensor destination, const void* source) {
  const std::size_t size = static_cast<std::size_t>(destination.bytes().count());
  if (size > 0) std::memcpy(destination.data, source, size);
}

void CpuBackend::download(Lane, void* destination, Tensor source) {
  const std::size_t size = static_cast<std::size_t>(source.bytes().count());
  if (size > 0) std::memcpy(destination, source.data, size);
}

void CpuBackend::synchronize(Lane) {}

void CpuBackend::reserve_events(int capacity) {
  ASSERT(capacity >= 0, "{}", capacity);
  events_ = std::make_unique<std::atomic<std::int64_t>[]>(static_cast<std::size_t>(capacity));
  event_capacity_ = capacity;
}

void CpuBackend::record_event(Lane, int index) {
  ASSERT(0 <= index && index < event_capacity_, "event {} of {}", index, event_capacity_);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  events_[static_cast<std::size_t>(index)] = std::chrono::duration_cast<Duration>(now).count();
}

/// What was recorded has been done: there is nothing to wait for.
void CpuBackend::wait_event(Lane, int index) {
  ASSERT(0 <= index && index < event_capacity_, "event {} of {}", index, event_capacity_);
}

Duration CpuBackend::elapsed(int from, int to) {
  ASSERT(0 <= from && from < event_capacity_, "event {} of {}", from, event_capacity_);
  ASSERT(0 <= to && to < event_capacity_, "event {} of {}", to, event_capacity_);
  return Duration(events_[static_cast<std::size_t>(to)] - events_[static_cast<std::size_t>(from)]);
}

}  // namespace moecast::cpu
