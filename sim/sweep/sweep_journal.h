#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "sim/sweep/sweep_rows.h"

namespace moecast {

/// The rows of a sweep that is not over yet, one line each as soon as it is there, so that a killed sweep goes on
/// (format: FORMAT.md). One process at a time holds a journal; one thread at a time appends.
class SweepJournal {
 public:
  /// Begins a journal or goes on with one. BadInput if the file is the journal of another sweep (`hash`), is none, or
  /// is held by another process; RunFailed if it cannot be written.
  [[nodiscard]] static Result<SweepJournal> open(const std::filesystem::path& path, std::uint64_t hash,
                                                 std::size_t metric_count);
  SweepJournal(SweepJournal&& other) noexcept;
  SweepJournal& operator=(SweepJournal&&) = delete;
  ~SweepJournal();

  /// What earlier runs have left. A damaged line counts as not written.
  [[nodiscard]] std::vector<SweepRow> take_recovered() { return std::move(recovered_); }
  [[nodiscard]] std::size_t damaged_count() const { return damaged_count_; }
  /// Once it returns, a killed process has the row. RunFailed (a full disk ...): the journal is as before.
  [[nodiscard]] Status append(const SweepRow& row);
  /// Once it returns, a machine that loses power has all rows.
  [[nodiscard]] Status sync();

 private:
  SweepJournal(int file, std::string path) : file_(file), path_(std::move(path)) {}
  Status recover(std::uint64_t hash, std::size_t metric_count);
  Status write_line(std::string_view line);
  [[nodiscard]] Error error_here(std::string_view doing) const;

  int file_ = -1;
  std::string path_;
  std::int64_t size_ = 0;  // of what is whole
  std::size_t metric_count_ = 0;
  std::vector<SweepRow> recovered_;
  std::size_t damaged_count_ = 0;
};

}  // namespace moecast
