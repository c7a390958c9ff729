#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/timeline_json.h"

namespace moecast {

/// A step as Chakra execution traces (MLCommons Chakra, schema/protobuf/et_def.proto), which ASTRA-sim 2 reads as
/// PREFIX.RANK.et with a file of communicator groups beside them.
struct ChakraTraces {
  std::vector<std::string> ranks;  // bytes of PREFIX.RANK.et
  std::string groups;              // JSON: {"1": [ranks], ...}, the names of "pg_name"
};

/// One node an operator. Compute: its median duration over the ranks of its stage (whole microseconds, the schema's
/// unit, at least one), floating-point operations and bytes; collectives: kind, bytes of a rank's buffer, group;
/// messages of a pipeline: peer, tag, bytes. A node depends on what its operator depends on and on the one before it on
/// its lane. A collective in a group of one is a local copy, and so compute.
[[nodiscard]] ChakraTraces chakra_traces(const RecordedTimeline& recorded);

}  // namespace moecast
