#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "hwprofiles/fit.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// Collectives that somebody measured with NVIDIA's tools on a machine that we never touch.
struct ImportedCollectives {
  std::vector<LinkSample> samples;  // ascending in size; one for each collective, group and size
  std::string origin;               // tool, version, date, ranks: for the profile's sources
};

/// Reads what `alltoall_perf -J FILE`, `all_reduce_perf -J FILE` and their kin of nccl-tests write (JSON version 3 and
/// earlier), or the lines of NCCL's Inspector plugin. A size is the larger of the bytes that a rank sends and receives,
/// which is Communication::buffer; a time is the out-of-place one (in place if there is none), of repeated sizes the
/// median. Sizes that moved nothing or failed their check are left out. BadInput if the file is neither, was cut off,
/// or holds no collective that a profile knows.
[[nodiscard]] Result<ImportedCollectives> import_collectives(const std::filesystem::path& path);

/// The node of `base` with its links fitted to the samples: all-to-all (and send/recv) to node.all_to_all, the others
/// to node.all_reduce; links without samples stay. Every third size is kept apart and judges the fit. The samples are
/// all of groups of one size, which becomes node.ranks. BadInput if they are not. `kernels`: imported samples of the
/// device, which `fit` judges too.
[[nodiscard]] Result<HardwareProfile> with_collectives(HardwareProfile base,
                                                       const std::vector<ImportedCollectives>& imported,
                                                       const std::vector<KernelSample>& kernels = {});

}  // namespace moecast
