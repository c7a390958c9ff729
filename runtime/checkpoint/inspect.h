#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/folder.h"

// What `moecast checkpoint inspect|verify DIR` print, as values.
namespace moecast {

struct EditSummary {
  Edit edit;
  bool restorable = false;      // by lengths, or, after verify, by checksums
  bool base_collected = false;  // kept for its units only
  Bytes base{0}, units{0};      // payload bytes, as the parts say
  std::int64_t unit_count = 0;  // units that this edit holds
  std::int64_t file_count = 0;
};

struct Inspection {
  std::string model;                             // name
  std::string fingerprint;                       // "" in an empty folder
  std::vector<EditSummary> edits;                // ascending
  std::optional<std::int64_t> newest;            // the version that a restore would take
  std::map<std::string, std::int64_t> unit_age;  // at that version: steps by which each unit is older
  std::vector<Damage> damages;
  std::vector<std::string> unreferred;  // garbage, or a checkpoint being written
  std::vector<std::string> strangers;
  Bytes size{0};  // all payload files
};

[[nodiscard]] Result<Inspection> inspect_checkpoints(Environment& environment, const std::filesystem::path& folder);

struct Verification {
  Inspection inspection;           // with damages of payloads
  std::int64_t checked_files = 0;  // payload files read to the end
  Bytes checked{0};
  /// Nothing is damaged and the newest edit can be restored.
  [[nodiscard]] bool good() const;
};
/// Reads every payload that an intact part refers to and compares every byte with its checksums.
[[nodiscard]] Result<Verification> verify_checkpoints(Environment& environment, const std::filesystem::path& folder);

struct PayloadCheck {
  std::vector<Damage> damages;
  std::int64_t files = 0;
  Bytes bytes{0};
};
[[nodiscard]] PayloadCheck verify_payloads(Environment& environment, const CheckpointFolder& folder);

}  // namespace moecast
