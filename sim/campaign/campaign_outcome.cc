#include "sim/campaign/campaign_outcome.h"

namespace moecast {

std::string_view name_of(TimeCause cause) {
  switch (cause) {
    case TimeCause::Useful:
      return "useful";
    case TimeCause::Stall:
      return "checkpoint stall";
    case TimeCause::Detection:
      return "detection";
    case TimeCause::Replacement:
      return "replacement";
    case TimeCause::Restart:
      return "restart";
    case TimeCause::Load:
      return "load";
    case TimeCause::Recomputation:
      return "recomputation";
    case TimeCause::Degraded:
      break;
  }
  return "degraded";
}

double CampaignOutcome::goodput() const {
  return wall == Duration::zero() ? 0 : seconds(of(TimeCause::Useful)) / seconds(wall);
}

double CampaignOutcome::running_share() const {
  if (wall == Duration::zero()) return 0;
  const Duration standing =
      of(TimeCause::Detection) + of(TimeCause::Replacement) + of(TimeCause::Restart) + of(TimeCause::Load);
  return 1 - seconds(standing) / seconds(wall);
}

}  // namespace moecast
