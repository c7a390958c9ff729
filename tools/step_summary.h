#pragma once

#include "models/timeline.h"
#include "tools/table.h"

namespace moecast {

/// Rows on the communication of a measured or simulated run: how much, how much of it is exposed, and how much the plan
/// must expose with these operator times.
void add_communication_rows(const Timeline& timeline, Table& table);

}  // namespace moecast
