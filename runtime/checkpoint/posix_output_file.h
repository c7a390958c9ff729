#pragma once

#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "runtime/checkpoint/environment.h"

namespace moecast {

/// The error of the last system call, by errno.
[[nodiscard]] Error posix_error(const std::filesystem::path& path, std::string_view what);

/// Writes blocks of kBlock bytes past the page cache on a thread of its own, while the caller fills the next block.
/// Files below one block never start the thread. The tail, and whatever follows the first sync, goes through the cache.
class PosixOutputFile final : public OutputFile {
 public:
  static constexpr std::size_t kBlock = std::size_t{4} << 20;

  PosixOutputFile(int descriptor, std::filesystem::path path);  // owns the descriptor
  ~PosixOutputFile() override;
  PosixOutputFile(const PosixOutputFile&) = delete;
  PosixOutputFile& operator=(const PosixOutputFile&) = delete;

  [[nodiscard]] Status append(std::span<const std::byte> data) override;
  [[nodiscard]] Status sync() override;

 private:
  struct FreeBlock {
    void operator()(std::byte* block) const;
  };
  using Block = std::unique_ptr<std::byte[], FreeBlock>;
  [[nodiscard]] static Block make_block();

  [[nodiscard]] Status hand_over();        // the full block goes to the thread
  [[nodiscard]] Status wait_until_idle();  // and its error, if any
  [[nodiscard]] Status fail(Error error);
  void write_blocks();  // the thread

  int descriptor_;
  std::filesystem::path path_;
  bool direct_ = false;
  Block filling_;
  std::size_t filled_ = 0;
  std::optional<Error> error_;  // the first; of the caller's side

  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Block writing_;                      // a block for the thread, if `busy_`
  bool busy_ = false;                  // under mutex_
  bool ending_ = false;                // under mutex_
  std::optional<Error> thread_error_;  // under mutex_
};

}  // namespace moecast
