#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/tensor.h"

// The safetensors format (github.com/huggingface/safetensors, README and src/tensor.rs): 8 bytes header length N,
// little endian; N bytes of JSON; the tensors' bytes. FORMAT.md says what we add.
namespace moecast {

/// Our dtypes under the format's names ("F32", "F64", "BF16", "I32").
[[nodiscard]] std::string_view safetensors_name(DType dtype);
[[nodiscard]] std::optional<DType> dtype_of(std::string_view safetensors_name);

/// One tensor of a file; any dtype of the format, so that files of other programs can be read.
struct SafetensorsEntry {
  std::string name;
  std::string dtype = "F32";
  std::vector<std::int64_t> shape;
  Bytes begin{0};  // in the data, which starts after the header
  Bytes end{0};
  friend bool operator==(const SafetensorsEntry&, const SafetensorsEntry&) = default;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;        // by position in the data
  std::map<std::string, std::string> metadata;  // "__metadata__"
  Bytes data_begin{0};                          // in the file: 8 + N
};

/// Data starts at a multiple of this: the header is padded with spaces, which the format allows, so that readers may
/// map or read the data directly.
inline constexpr std::int64_t kDataAlignment = 4096;

/// The order of the format's own writer: by element size, largest first (every tensor is aligned), then by name.
void sort_for_file(std::vector<SafetensorsEntry>& entries);
/// Places the entries one after another and returns the file's first bytes: length, JSON, padding. Entries have name,
/// dtype and shape; begin and end are set here. Names are unique.
[[nodiscard]] std::string make_header(std::vector<SafetensorsEntry>& entries,
                                      const std::map<std::string, std::string>& metadata);

/// Reads a header and trusts nothing: lengths, shapes (overflow), duplicate names, gaps, overlaps, the end of the file.
[[nodiscard]] Result<SafetensorsHeader> read_header(Environment& environment, const std::filesystem::path& path);
/// The same from memory: `text` is the file's first 8 + N bytes, `file_size` the whole file's.
[[nodiscard]] Result<SafetensorsHeader> parse_header(std::string_view text, Bytes file_size, const std::string& place);

}  // namespace moecast
