#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "models/parallel_layout.h"
#include "runtime/communicator.h"

namespace moecast {

/// Every group of a layout and its name in messages.
inline constexpr std::array<std::pair<Group, std::string_view>, kGroupCount> kGroupNames = {{
    {Group::World, "world"},
    {Group::Tensor, "tensor"},
    {Group::Expert, "expert"},
    {Group::Data, "data"},
    {Group::ExpertData, "expert-data"},
    {Group::Pipeline, "pipeline"},
    {Group::Context, "context"},
}};

/// One rank's communicators: one for each Group of its layout (groups of a single rank included).
class Groups {
 public:
  [[nodiscard]] Communicator& at(Group group) const {
    ASSERT(communicators_[index(group)] != nullptr);
    return *communicators_[index(group)];
  }
  void set(Group group, std::unique_ptr<Communicator> communicator) {
    communicators_[index(group)] = std::move(communicator);
  }
  /// The first group's that has failed, or will.
  [[nodiscard]] Status check() const {
    for (const auto& communicator : communicators_) {
      if (communicator) RETURN_IF_ERROR(communicator->check());
    }
    return {};
  }
  /// Gives up in every group: what a rank does when it fails (OperatorRunner::abandon).
  void abort(const Error& reason) const {
    for (const auto& communicator : communicators_) {
      if (communicator) communicator->abort(reason);
    }
  }

 private:
  static std::size_t index(Group group) { return static_cast<std::size_t>(group); }
  std::array<std::unique_ptr<Communicator>, kGroupCount> communicators_;
};

}  // namespace moecast
