#pragma once

/// The contract of Communicator, over groups whose ranks are threads of this process, or processes that all run it. To
/// run an implementation through it, include this header in one test file and write INSTANTIATE_TEST_SUITE_P(Name,
/// CommunicatorContract,
/// ::testing::ValuesIn(cases), communicator_case_name).

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

/// A random exchange pattern: several segments for each pair of ranks, empty ones among them, in shuffled order and
/// with rows between them that nobody owns.
struct ExchangePattern {
  struct Side {
    std::vector<Segment> segments;
    std::int64_t rows = 0;
  };
  std::vector<Side> send, receive;  // by rank

  ExchangePattern(int size, std::uint64_t seed)
      : send(static_cast<std::size_t>(size)), receive(static_cast<std::size_t>(size)), generator_(seed) {
    for (int from = 0; from < size; ++from) {
      for (int to = 0; to < size; ++to) add_pair(from, to);
    }
    for (Side& side : send) place(side);
    for (Side& side : receive) place(side);
  }

 private:
  void add_pair(int from, int to) {
    for (std::uint64_t i = generator_() % 4; i > 0; --i) {
      const auto rows = static_cast<std::int64_t>(generator_() % 5);
      send[static_cast<std::size_t>(from)].segments.push_back({to, 0, rows});
      receive[static_cast<std::size_t>(to)].segments.push_back({from, 0, rows});
    }
  }
  /// Lays the segments out in a random order (rows), keeping the list order of each pair.
  void place(Side& side) {
    std::vector<std::size_t> order(side.segments.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator_);
    for (const std::size_t i : order) {
      side.segments[i].row = side.rows;
      side.rows += side.segments[i].row_count + static_cast<std::int64_t>(generator_() % 2);
    }
  }

  std::mt19937_64 generator_;
};

TEST_P(CommunicatorContract, KnowsItsPlaceInTheGroup) {
  std::vector<std::int64_t> everyone(static_cast<std::size_t>(size()));
  std::iota(everyone.begin(), everyone.end(), 0);
  on_all([&](RankEnd& end) {
    EXPECT_EQ(end.communicator().size(), size());
    EXPECT_FALSE(end.communicator().name().empty());
    // Every peer finds this rank at the place that it claims.
    const std::vector<std::int64_t> own(static_cast<std::size_t>(size()), end.rank());
    const auto ranks = end.communicator().exchange(own);
    ASSERT_TRUE(ranks.ok());
    EXPECT_EQ(*ranks, everyone);
  });
}

TEST_P(CommunicatorContract, AllToAllPutsEverySegmentWhereItsReceiverSays) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const ExchangePattern pattern(size(), seed);
    const std::int64_t columns = 1 + static_cast<std::int64_t>(seed) * 3;
    const auto sent_by = [&](int rank) {
      return random_bytes(pattern.send[static_cast<std::size_t>(rank)].rows * columns * 4,
                          seed * 100 + static_cast<std::uint64_t>(rank));
    };
    on_all([&](RankEnd& end) {
      const auto& mine = pattern.send[static_cast<std::size_t>(end.rank())];
      const auto& theirs = pattern.receive[static_cast<std::size_t>(end.rank())];
      HostBytes expected = random_bytes(theirs.rows * columns * 4, 7);  // rows between segments must stay
      const Tensor send = end.upload(DType::F32, mine.rows, columns, sent_by(end.rank()));
      const Tensor receive = end.upload(DType::F32, theirs.rows, columns, expected);
      ASSERT_TRUE(end.communicator().all_to_all(send, mine.segments, receive, theirs.segments).ok());
      for (int peer = 0; peer < size(); ++peer) {
        const HostBytes source = sent_by(peer);
        std::vector<Segment> from, to;
        for (const Segment& s : pattern.send[static_cast<std::size_t>(peer)].segments) {
          if (s.peer == end.rank()) from.push_back(s);
        }
        for (const Segment& s : theirs.segments) {
          if (s.peer == peer) to.push_back(s);
        }
        ASSERT_EQ(from.size(), to.size());
        for (std::size_t i = 0; i < from.size(); ++i) {
          std::copy_n(source.begin() + from[i].row * columns * 4, from[i].row_count * columns * 4,
                      expected.begin() + to[i].row * columns * 4);
        }
      }
      EXPECT_EQ(end.download(receive), expected) << "rank " << end.rank() << " seed " << seed;
    });
  }
}

TEST_P(CommunicatorContract, AllToAllWithoutAnyRowsStillMeets) {
  on_all([&](RankEnd& end) {
    const Tensor nothing = end.upload(DType::F32, 0, 8, {});
    EXPECT_TRUE(end.communicator().all_to_all(nothing, {}, nothing, {}).ok());
  });
}

TEST_P(CommunicatorContract, AllReduceGivesTheSumInRankOrderBitForBitOnAllRanks) {
  for_summable([&](DType dtype, auto element) {
    using T = decltype(element);
    for (const std::int64_t count : {0, 1, 7, 1000, 10007}) {
      const HostBytes expected = as_bytes(ordered_sum<T>(count, 50));
      on_all([&](RankEnd& end) {
        const auto own = values<T>(count, 50 + static_cast<std::uint64_t>(end.rank()));
        const Tensor buffer = end.upload(dtype, count, 1, as_bytes(own));
        ASSERT_TRUE(end.communicator().all_reduce(buffer).ok());
        EXPECT_EQ(end.download(buffer), expected) << "rank " << end.rank() << ", " << count << " elements";
      });
    }
  });
}

TEST_P(CommunicatorContract, ReduceScatterGivesEachRankItsPartOfTheSum) {
  for_summable([&](DType dtype, auto element) {
    using T = decltype(element);
    for (const std::int64_t part : {1, 5, 3001}) {
      const std::vector<T> sum = ordered_sum<T>(part * size(), 90);
      on_all([&](RankEnd& end) {
        const auto own = values<T>(part * size(), 90 + static_cast<std::uint64_t>(end.rank()));
        const Tensor buffer = end.upload(dtype, part * size(), 1, as_bytes(own));
        const Tensor shard = end.upload(dtype, part, 1, random_bytes(part * static_cast<std::int64_t>(sizeof(T)), 1));
        ASSERT_TRUE(end.communicator().reduce_scatter(buffer, shard).ok());
        const auto begin = sum.begin() + part * end.rank();
        EXPECT_EQ(end.download(shard), as_bytes(std::vector<T>(begin, begin + part)));
      });
    }
  });
}

TEST_P(CommunicatorContract, AllGatherPutsShardsInRankOrder) {
  for (const std::int64_t part : {1, 4, 2500}) {
    HostBytes expected;
    for (int rank = 0; rank < size(); ++rank) {
      const HostBytes shard = random_bytes(part * 4, 200 + static_cast<std::uint64_t>(rank));
      expected.insert(expected.end(), shard.begin(), shard.end());
    }
    on_all([&](RankEnd& end) {
      const HostBytes own = random_bytes(part * 4, 200 + static_cast<std::uint64_t>(end.rank()));
      const Tensor shard = end.upload(DType::F32, part, 1, own);
      const Tensor buffer = end.upload(DType::F32, part * size(), 1, random_bytes(part * size() * 4, 3));
      ASSERT_TRUE(end.communicator().all_gather(shard, buffer).ok());
      EXPECT_EQ(end.download(buffer), expected);
      // In place: the shard is already where it belongs.
      const Tensor place = end.upload(DType::F32, part * size(), 1, random_bytes(part * size() * 4, 4));
      const Tensor own_part = place.slice(part * end.rank(), part * (end.rank() + 1));
      ASSERT_TRUE(end.communicator().all_gather(own_part, place).ok());
      const HostBytes gathered = end.download(place);
      EXPECT_TRUE(std::equal(gathered.begin() + part * 4 * end.rank(), gathered.begin() + part * 4 * (end.rank() + 1),
                             random_bytes(part * size() * 4, 4).begin() + part * 4 * end.rank()));
    });
  }
}

TEST_P(CommunicatorContract, BroadcastCopiesFromEveryRoot) {
  for (int root = 0; root < size(); ++root) {
    on_all([&](RankEnd& end) {
      const Tensor buffer = end.upload(DType::I32, 33, 3, random_bytes(396, static_cast<std::uint64_t>(end.rank())));
      ASSERT_TRUE(end.communicator().broadcast(buffer, root).ok());
      EXPECT_EQ(end.download(buffer), random_bytes(396, static_cast<std::uint64_t>(root)));
    });
  }
}

TEST_P(CommunicatorContract, ExchangeTransposesSmallValues) {
  on_all([&](RankEnd& end) {
    std::vector<std::int64_t> mine;
    for (int peer = 0; peer < size(); ++peer) mine.push_back(1000 * end.rank() + peer);
    const auto got = end.communicator().exchange(mine);
    ASSERT_TRUE(got.ok());
    for (int peer = 0; peer < size(); ++peer) {
      EXPECT_EQ((*got)[static_cast<std::size_t>(peer)], 1000 * peer + end.rank());
    }
  });
}

TEST_P(CommunicatorContract, CallsFollowEachOtherInOrder) {
  on_all([&](RankEnd& end) {
    for (int round = 0; round < 100; ++round) {
      const Tensor buffer = end.upload(DType::F32, 1, 1, as_bytes(std::vector<float>{static_cast<float>(round)}));
      ASSERT_TRUE(end.communicator().all_reduce(buffer).ok());
      ASSERT_EQ(end.download(buffer), as_bytes(std::vector<float>{static_cast<float>(round * size())}));
      ASSERT_TRUE(end.communicator().barrier().ok());
    }
  });
}

TEST_P(CommunicatorContract, EveryCallAfterAnErrorReturnsTheFirstOne) {
  on_all([&](RankEnd& end) {
    ASSERT_TRUE(end.communicator().barrier().ok());
    if (end.rank() == size() - 1) {
      end.communicator().abort({ErrorKind::RunFailed, "test", "first reason"});
      end.communicator().abort({ErrorKind::RunFailed, "test", "second reason"});
    }
    const Tensor buffer = end.upload(DType::F32, 4, 1, random_bytes(16, 1));
    for (int round = 0; round < 3; ++round) {
      Status status = end.communicator().all_reduce(buffer);
      if (status.ok()) status = end.finish();  // an asynchronous one may hear of it only now
      ASSERT_FALSE(status.ok());
      EXPECT_NE(status.error().message.find("first reason"), std::string::npos) << status.error().text();
      EXPECT_EQ(status.error().message.find("second reason"), std::string::npos);
      EXPECT_FALSE(end.communicator().exchange(std::vector<std::int64_t>(static_cast<std::size_t>(size()))).ok());
      EXPECT_FALSE(end.communicator().barrier().ok());
    }
  });
}

}  // namespace moecast::testing
