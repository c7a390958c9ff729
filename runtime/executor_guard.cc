#include "runtime/executor_guard.h"

#include <exception>

#include <fmt/format.h>

namespace moecast {
namespace {

Status run_without_exceptions(OperatorRunner& runner, const Operator& op) {
  try {
    return runner.run(op);
  } catch (const std::exception& exception) {
    return Error{ErrorKind::RunFailed, "", exception.what()};
  } catch (...) {
    return Error{ErrorKind::RunFailed, "", "unknown exception"};
  }
}

}  // namespace

Status run_guarded(OperatorRunner& runner, const Operator& op, Rank rank) {
  const Status status = run_without_exceptions(runner, op);
  if (status.ok()) return status;
  Error error = status.error();
  const std::string where = fmt::format("rank {}, operator {}", rank.value(), op.id.value());
  error.place = error.place.empty() ? where : where + ": " + error.place;
  return error;
}

void assert_plan_order(const StepPlan& plan) {
  for (std::size_t i = 0; i < plan.operators.size(); ++i) {
    const Operator& op = plan.operators[i];
    ASSERT(op.id.index() == i, "operator {} has id {}", i, op.id.value());
    for (const OpId dependency : op.dependencies) {
      ASSERT(dependency < op.id, "operator {} depends on {}", op.id.value(), dependency.value());
    }
  }
}

}  // namespace moecast
