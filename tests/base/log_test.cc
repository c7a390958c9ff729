#include "base/log.h"

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace moecast {
namespace {

/// A FILE* whose content can be read back.
class Memory {
 public:
  Memory() : file_(open_memstream(&data_, &size_)) {}
  ~Memory() {
    std::fclose(file_);
    std::free(data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[nodiscard]] std::FILE* file() { return file_; }
  [[nodiscard]] std::string text() {
    std::fflush(file_);
    return {data_, size_};
  }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_;
};

TEST(Log, WritesUpToItsLevel) {
  Memory memory;
  Log log(LogLevel::Warning, memory.file());
  log.error("rank {} lost", 3);
  log.warning("slow link");
  log.info("step {}", 1);
  log.debug("hidden");
  EXPECT_EQ(memory.text(), "error: rank 3 lost\nwarning: slow link\n");
  EXPECT_FALSE(log.writes(LogLevel::Info));
}

TEST(Log, LinesOfManyThreadsStayWhole) {
  Memory memory;
  Log log(LogLevel::Info, memory.file());
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log] {
        for (int i = 0; i < 100; ++i) log.info("{}", std::string(50, 'x'));
      });
    }
  }
  const std::string text = memory.text();
  ASSERT_EQ(text.size(), 400U * 51U);
  for (std::size_t i = 0; i < text.size(); ++i) ASSERT_EQ(text[i], i % 51 == 50 ? '\n' : 'x') << i;
}

}  // namespace
}  // namespace moecast
