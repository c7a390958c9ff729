#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hwprofiles/topology.h"
#include "sim/joined_members.h"

namespace moecast {

/// How much longer an uneven direct all-to-all takes than its busiest link, because messages do not end together: a
/// receiver of much can be held back at first by links that its senders share with messages to others, and these links
/// are idle at the end.
///
/// The problem: members send to member j `received[j]` each. Every message moves at its max-min fair rate; when one
/// ends, the others speed up. The method: messages to one receiver that one part of the topology carries are taken as
/// one variable (their senders are loaded alike), so there are members * parts of them, filled progressively, and what
/// they load is summed over sets of members (sim/joined_members.h). Ends that are closer than 0.2 % of the whole are
/// one event. Cost O(events * members * parts), memory O(members * parts).
class FairExchange {
 public:
  /// `topology` outlives this.
  explicit FairExchange(const Topology& topology);

  /// Time of the exchange / time of its busiest link alone: 1 or more. `gpus`: the members, at least two.
  [[nodiscard]] double slowdown(std::span<const std::int32_t> gpus, std::span<const double> received);

 private:
  struct Place {                                // of a member at a part
    std::int32_t up = 0, down = 0, inner = -1;  // local resources; -1: none
  };

  void number_resources(std::span<const std::int32_t> gpus);
  void number_keys(std::span<const std::int32_t> gpus);
  [[nodiscard]] std::int32_t local(std::int32_t resource);
  [[nodiscard]] std::size_t row(std::size_t part, std::size_t member) const { return part * member_count_ + member; }
  void sum_joined(std::size_t part, std::span<const double> values);
  void load(std::span<const double> values);
  void fill();
  void freeze(double level);

  const Topology& topology_;
  JoinedMembers joined_;
  std::size_t member_count_ = 0;
  std::vector<std::size_t> direct_;     // parts that join members
  std::vector<std::int32_t> local_of_;  // by resource of the topology; -1: of no member
  std::vector<std::int32_t> numbered_;
  std::vector<double> capacities_;               // local
  std::vector<Place> places_;                    // [part][member]
  std::vector<std::vector<std::int32_t>> keys_;  // [cell][member]
  std::vector<std::vector<double>> sums_;        // [cell][key]
  std::vector<double> joined_sum_;               // [member]: the last sum_joined()
  std::vector<double> senders_;                  // [part][member]: messages of a row
  std::vector<double> left_, rate_, rising_;     // [part][member]: of one message; 1 or 0
  std::vector<double> free_, load_;              // by local resource
  std::vector<double> flags_;                    // [member]
};

}  // namespace moecast
