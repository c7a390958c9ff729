#include "sim/sweep/sweep_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "sim/sweep/sweep_row_text.h"

namespace moecast {
namespace {

std::string with_checksum(std::string_view body) {
  const auto sum = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return fmt::format("{:08x} {}\n", sum, body);
}

/// The body of a line (without its newline), if its sum is right.
std::optional<std::string_view> body_of(std::string_view line) {
  if (line.size() < 9) return std::nullopt;
  const std::string_view body = line.substr(9);
  std::string whole = with_checksum(body);
  whole.pop_back();
  return whole == line ? std::optional(body) : std::nullopt;
}

std::string header_of(std::uint64_t hash, std::size_t metric_count) {
  return fmt::format("moecast-sweep-journal 1 {:016x} {}", hash, metric_count);
}

std::optional<std::string> whole_file(int file) {
  std::string out;
  char block[1 << 16];
  for (;;) {
    const ssize_t got = pread(file, block, sizeof block, static_cast<off_t>(out.size()));
    if (got == 0) return out;
    if (got < 0) return std::nullopt;
    out.append(block, static_cast<std::size_t>(got));
  }
}

}  // namespace

SweepJournal::SweepJournal(SweepJournal&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      path_(std::move(other.path_)),
      size_(other.size_),
      metric_count_(other.metric_count_),
      recovered_(std::move(other.recovered_)),
      damaged_count_(other.damaged_count_) {}

SweepJournal::~SweepJournal() {
  if (file_ >= 0) close(file_);
}

Error SweepJournal::error_here(std::string_view doing) const {
  return Error{ErrorKind::RunFailed, path_,
               fmt::format("{}: {}", doing, std::error_code(errno, std::generic_category()).message())};
}

Result<SweepJournal> SweepJournal::open(const std::filesystem::path& path, std::uint64_t hash,
                                        std::size_t metric_count) {
  SweepJournal journal(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644), path.string());
  if (journal.file_ < 0) return journal.error_here("cannot be opened");
  if (flock(journal.file_, LOCK_EX | LOCK_NB) != 0) {
    return Error{ErrorKind::BadInput, path.string(), "another moecast is at work on this sweep"};
  }
  RETURN_IF_ERROR(journal.recover(hash, metric_count));
  return journal;
}

Status SweepJournal::recover(std::uint64_t hash, std::size_t metric_count) {
  metric_count_ = metric_count;
  const std::optional<std::string> text = whole_file(file_);
  if (!text) return error_here("cannot be read");
  const std::string header = with_checksum(header_of(hash, metric_count));
  const std::size_t end = text->rfind('\n') + 1;  // 0 if there is none
  if (end == 0) {
    // Killed before the first line was whole; nothing else may be thrown away.
    if (header.substr(0, text->size()) != *text) {
      return Error{ErrorKind::BadInput, path_, "exists and is not the journal of this sweep"};
    }
    return write_line(header);
  }
  const std::size_t first = text->find('\n');
  const std::optional<std::string_view> body = body_of(std::string_view(*text).substr(0, first));
  if (!body || !body->starts_with("moecast-sweep-journal ")) {
    return Error{ErrorKind::BadInput, path_, "exists and is not the journal of a sweep"};
  }
  if (*body != header_of(hash, metric_count)) {
    return Error{ErrorKind::BadInput, path_,
                 "is the journal of another sweep, or of another version of moecast or of the files that it names"};
  }
  for (std::size_t at = first + 1; at < end;) {
    const std::size_t stop = text->find('\n', at);
    const std::optional<std::string_view> line = body_of(std::string_view(*text).substr(at, stop - at));
    std::optional<SweepRow> row = line ? row_of_text(*line, metric_count) : std::nullopt;
    if (row) {
      recovered_.push_back(*std::move(row));
    } else {
      ++damaged_count_;
    }
    at = stop + 1;
  }
  size_ = static_cast<std::int64_t>(end);
  if (end < text->size()) ++damaged_count_;
  if (ftruncate(file_, size_) != 0) return error_here("cannot be cut to its last whole line");
  return {};
}

Status SweepJournal::write_line(std::string_view line) {
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t wrote = pwrite(file_, line.data() + done, line.size() - done, size_ + static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const Error error = error_here("cannot be written");
      static_cast<void>(ftruncate(file_, size_));  // else the next reader cuts it
      return error;
    }
    done += static_cast<std::size_t>(wrote);
  }
  size_ += static_cast<std::int64_t>(line.size());
  return {};
}

Status SweepJournal::append(const SweepRow& row) { return write_line(with_checksum(to_text(row))); }

Status SweepJournal::sync() {
  if (fdatasync(file_) != 0) return error_here("cannot be synced");
  return {};
}

}  // namespace moecast
