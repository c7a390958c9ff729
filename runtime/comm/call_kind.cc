#include "runtime/comm/call_kind.h"

namespace moecast {

const char* to_text(CallKind kind) {
  switch (kind) {
    case CallKind::AllToAll:
      return "all_to_all";
    case CallKind::AllReduce:
      return "all_reduce";
    case CallKind::ReduceScatter:
      return "reduce_scatter";
    case CallKind::AllGather:
      return "all_gather";
    case CallKind::Broadcast:
      return "broadcast";
    case CallKind::Exchange:
      return "exchange";
    case CallKind::Barrier:
      return "barrier";
  }
  return "";
}

}  // namespace moecast
