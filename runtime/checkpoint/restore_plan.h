#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/sharding.h"
#include "models/state_inventory.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/tensor.h"

// Which versions a state is put together from: the fold over the edits. Pure: no files, no memory.
//
// Given versions 1, 2, ... (edit numbers), each with its history H(v) (versions of its own past), and pieces: elements
// of a tensor as of one version. Wanted: elements of tensors, each belonging to a unit or to the base (non-expert
// state). Choose v = the newest version at which
//   every base element has a piece of version v, and
//   every unit u has a version s(u) in H(v) + {v} with a piece of version s(u) for every wanted element of u,
// and s(u) = the newest such version. Elements are covered by any number of pieces (another layout wrote them); pieces
// in host memory come before pieces in storage. (MoC-System, arXiv 2408.04307, section 5.2.)
namespace moecast {

struct NeededSlice {
  std::string tensor;
  Component component = Component::Weight;
  DType dtype = DType::F32;
  ElementRange elements;
  std::string unit;  // "" for the base
};

/// Elements that can be had. `source` is the caller's own index.
struct Piece {
  std::string tensor;
  Component component = Component::Weight;
  DType dtype = DType::F32;
  ElementRange elements;
  std::int64_t version = 0;
  CheckpointLevel level = CheckpointLevel::Storage;
  std::size_t source = 0;
};

struct Version {
  std::int64_t step = 0;
  History history;
};
using Versions = std::map<std::int64_t, Version>;

/// What may be chosen at most: agreed among ranks, or asked for by the user.
struct RestoreBounds {
  std::int64_t version = std::numeric_limits<std::int64_t>::max();
  std::map<std::string, std::int64_t> units;  // those not named are bound by `version` alone
  /// For study: a unit may be newer than v if v belongs to its past.
  bool allow_newer_units = false;
  /// Every unit has to be of v itself.
  bool same_version = false;
  /// The initial state counts as version 0: a unit without any version stays as it is instead of refusing v.
  bool initial_units = false;
};

struct PieceCopy {
  std::size_t need = 0;
  std::size_t piece = 0;
  ElementRange elements;  // of the tensor; inside both
  friend bool operator==(const PieceCopy&, const PieceCopy&) = default;
};

struct RestorePlan {
  std::int64_t version = 0;
  std::map<std::string, std::int64_t> units;  // the version of every wanted unit; 0: nothing is copied
  std::vector<PieceCopy> copies;              // each wanted element once
};

/// RunFailed if no version can be restored: for the newest ones, what is missing.
[[nodiscard]] Result<RestorePlan> plan_restore(const std::vector<NeededSlice>& needs, const std::vector<Piece>& pieces,
                                               const Versions& versions, const RestoreBounds& bounds);

}  // namespace moecast
