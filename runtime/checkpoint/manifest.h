#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "models/checkpoint/sharding.h"
#include "models/parallel_layout.h"
#include "models/state_inventory.h"
#include "runtime/tensor.h"

// The manifest is a log of edits, one file each. An edit says what one checkpoint added; what can be restored is a fold
// over the edits (restore_plan.h). FORMAT.md has the files with a worked example.
namespace moecast {

/// "weight", "master", "first_moment", "second_moment", "gradient".
[[nodiscard]] std::string_view to_text(Component component);
[[nodiscard]] Result<Component> parse_component(std::string_view text);

/// Elements of one component of one parameter, and where a shard file holds them.
struct StoredSlice {
  std::string tensor;  // the parameter: "blocks.3.experts.5.w1"
  Component component = Component::Weight;
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;  // of the whole parameter
  ElementRange elements;            // of the flat parameter
  /// What is restored together, from one version: an expert ("blocks.3.experts.5"). "": the non-expert state, which is
  /// always of the version that is restored.
  std::string unit;
  std::size_t file = 0;  // position in Part::files
  Bytes offset{0};       // in the file
  std::uint32_t checksum = 0;

  [[nodiscard]] Bytes bytes() const { return Bytes(elements.count() * bytes_per_element(dtype)); }
  [[nodiscard]] bool whole() const;  // all elements of the parameter
  friend bool operator==(const StoredSlice&, const StoredSlice&) = default;
};

struct StoredFile {
  std::string name;
  Bytes size{0};
  Bytes header{0};  // the safetensors header: the data begins here
  std::uint32_t header_checksum = 0;
  friend bool operator==(const StoredFile&, const StoredFile&) = default;
};

/// What one rank wrote for an edit.
struct Part {
  std::int64_t edit = 0;
  std::int32_t rank = 0;
  std::vector<StoredFile> files;
  std::vector<StoredSlice> slices;
  friend bool operator==(const Part&, const Part&) = default;
};

/// Everything that training needs to go on and that is no tensor; of the non-expert part's version.
struct TrainingState {
  std::int64_t step = 0;           // updates done
  std::int64_t data_position = 0;  // where the data goes on
  std::string random_state;        // seeds and counters, in the trainer's own words
  std::string policy;              // the checkpoint policy, JSON text
  std::map<std::string, std::string> extra;
  friend bool operator==(const TrainingState&, const TrainingState&) = default;
};

/// Numbers first..last, both included.
struct EditRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
  friend bool operator==(const EditRange&, const EditRange&) = default;
};
/// Ascending and disjoint: the versions that a state came from. A run that went back to an older version leaves a gap:
/// what was written in between belongs to another past.
using History = std::vector<EditRange>;
[[nodiscard]] bool contains(const History& history, std::int64_t edit);
/// `history` with first..last at its end.
[[nodiscard]] History extended(History history, std::int64_t first, std::int64_t last);

struct PartReference {
  Bytes size{0};
  std::uint32_t checksum = 0;  // of the part's file
  friend bool operator==(const PartReference&, const PartReference&) = default;
};

/// One version of the checkpoint. It exists when its file has its final name.
struct Edit {
  std::int64_t number = 0;  // ascending over the folder's whole life
  std::string fingerprint;  // of the model
  ParallelLayout layout;
  TrainingState state;
  History history;                   // versions before this one that units may be taken from
  std::vector<PartReference> parts;  // by rank
};

[[nodiscard]] std::string to_text(const Part& part);
[[nodiscard]] std::string to_text(const Edit& edit);
/// RunFailed: damaged. BadInput: intact, but of a newer format version; nothing else gives BadInput.
[[nodiscard]] Result<Part> parse_part(std::string_view text, const std::string& place);
[[nodiscard]] Result<Edit> parse_edit(std::string_view text, const std::string& place);

}  // namespace moecast
