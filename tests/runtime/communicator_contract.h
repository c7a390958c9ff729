#pragma once

/// The ground that the contract of Communicator stands on (communicator_contract_suite.h): groups whose ranks are
/// threads of this process, or processes that all run it.

#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/backend.h"
#include "runtime/communicator.h"

namespace moecast::testing {

struct CommunicatorCase {
  std::string name;  // letters and digits
  int size = 1;
  /// By rank, as many as there are backends; null: the rank is another process that runs the same test.
  std::function<std::vector<std::unique_ptr<Communicator>>(std::span<const std::unique_ptr<Backend>> backends)>
      make_group;
  std::function<std::unique_ptr<Backend>()> make_backend;  // of one rank; null: not on this machine, skipped
  std::vector<DType> summable = {DType::F32, DType::F64, DType::I32};
};

inline void PrintTo(const CommunicatorCase& subject, std::ostream* out) { *out << subject.name; }
inline std::string communicator_case_name(const ::testing::TestParamInfo<CommunicatorCase>& info) {
  return info.param.name;
}

using HostBytes = std::vector<std::byte>;

/// One rank's end of a test group: its communicator, and tensors in its backend's memory.
class RankEnd {
 public:
  RankEnd(std::unique_ptr<Communicator> communicator, Backend& backend)
      : communicator_(std::move(communicator)), backend_(&backend) {}

  [[nodiscard]] Communicator& communicator() { return *communicator_; }
  [[nodiscard]] int rank() const { return communicator_->rank(); }

  [[nodiscard]] Tensor upload(DType dtype, std::int64_t rows, std::int64_t columns, const HostBytes& bytes) {
    auto memory = backend_->allocate(Bytes(std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes.size()))));
    EXPECT_TRUE(memory.ok());
    const Tensor tensor((*memory)->data(), dtype, {rows, columns});
    EXPECT_EQ(tensor.bytes().count(), static_cast<std::int64_t>(bytes.size()));
    memory_.push_back(std::move(*memory));
    if (!bytes.empty()) backend_->upload(Lane::Comm, tensor, bytes.data());
    backend_->synchronize(Lane::Comm);
    return tensor;
  }
  /// Waits for calls on the device, and whether they ended well.
  [[nodiscard]] Status finish() {
    backend_->synchronize(Lane::Comm);
    return communicator_->check();
  }
  [[nodiscard]] HostBytes download(Tensor tensor) {
    HostBytes bytes(static_cast<std::size_t>(tensor.bytes().count()));
    if (!bytes.empty()) backend_->download(Lane::Comm, bytes.data(), tensor);
    backend_->synchronize(Lane::Comm);
    return bytes;
  }

 private:
  std::unique_ptr<Communicator> communicator_;
  Backend* backend_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

class CommunicatorContract : public ::testing::TestWithParam<CommunicatorCase> {
 protected:
  void SetUp() override {
    for (int rank = 0; rank < size(); ++rank) {
      backends_.push_back(GetParam().make_backend());
      if (backends_.back() == nullptr) GTEST_SKIP() << GetParam().name << " cannot run on this machine";
    }
    auto group = GetParam().make_group(backends_);
    for (int rank = 0; rank < size(); ++rank) {
      const auto slot = static_cast<std::size_t>(rank);
      if (group[slot]) ends_.push_back(std::make_unique<RankEnd>(std::move(group[slot]), *backends_[slot]));
    }
  }

  [[nodiscard]] int size() const { return GetParam().size; }
  /// Runs `body` for every rank of this process, each on a thread of its own.
  void on_all(const std::function<void(RankEnd&)>& body) {
    std::vector<std::jthread> threads;
    for (const auto& end : ends_) threads.emplace_back([&body, &end] { body(*end); });
  }

  /// Values that differ by rank and place; small integers in every dtype where `exact`, else full random fractions.
  template <typename T>
  static std::vector<T> values(std::int64_t count, std::uint64_t seed) {
    std::mt19937_64 generator(seed);
    std::vector<T> result(static_cast<std::size_t>(count));
    for (T& value : result) {
      const double fraction = static_cast<double>(generator() >> 11U) * 0x1p-53 - 0.5;
      if constexpr (std::is_integral_v<T>) {
        value = static_cast<T>(fraction * 1e6);
      } else {
        value = static_cast<T>(fraction);
      }
    }
    return result;
  }
  template <typename T>
  static HostBytes as_bytes(const std::vector<T>& source) {
    HostBytes bytes(source.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), source.data(), bytes.size());
    return bytes;
  }
  static HostBytes random_bytes(std::int64_t count, std::uint64_t seed) {
    std::mt19937_64 generator(seed);
    HostBytes bytes(static_cast<std::size_t>(count));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 0xFFU);
    return bytes;
  }

  /// Calls body with a value of the element type of each dtype that the implementation can sum.
  template <typename Body>
  static void for_summable(Body body) {
    for (const DType dtype : GetParam().summable) {
      if (dtype == DType::F32) body(dtype, float{});
      if (dtype == DType::F64) body(dtype, double{});
      if (dtype == DType::I32) body(dtype, std::int32_t{});
    }
  }
  /// The sum over ranks, in rank order, of values<T>(count, seed + rank).
  template <typename T>
  [[nodiscard]] std::vector<T> ordered_sum(std::int64_t count, std::uint64_t seed) const {
    std::vector<T> sum = values<T>(count, seed);
    for (int rank = 1; rank < size(); ++rank) {
      const std::vector<T> addend = values<T>(count, seed + static_cast<std::uint64_t>(rank));
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += addend[i];
    }
    return sum;
  }

 private:
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<RankEnd>> ends_;
};

}  // namespace moecast::testing
