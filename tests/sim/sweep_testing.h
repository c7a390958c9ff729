#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sim/sweep/sweep.h"

namespace moecast::testing_sweep {

/// A campaign on 64 GPUs that takes well under a millisecond a replica.
extern const char* const kCampaign;

/// The sweep with kCampaign as its base; `rest` is what follows "base" in the file, from its first key on.
[[nodiscard]] std::string sweep_text(const std::string& rest);
[[nodiscard]] Result<SweepSpec> parse_sweep(const std::string& rest);
/// A sweep of 3 x 4 points of two replicas: interval x persist_experts.
[[nodiscard]] SweepSpec small_sweep();
[[nodiscard]] SweepSpec good_sweep(const std::string& rest);
[[nodiscard]] std::vector<SweepPoint> points_of(const SweepSpec& spec);
[[nodiscard]] std::string error_of(const Result<SweepSpec>& spec);

/// Rows as the journal would write them, so that equal text is equal bits.
[[nodiscard]] std::string text_of(const SweepRows& rows);

/// A folder that is gone when the object is.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moecast::testing_sweep
