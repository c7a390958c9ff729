#include "runtime/calibration/kernel_runner.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "runtime/calibration/memory_calls.h"

namespace moecast {
namespace {

using Call = std::function<void()>;

/// Makes the calls of one operand set. Tensors are captured by value: they are views.
class CallMaker {
 public:
  CallMaker(Backend& backend, Operands& operands, Lane lane)
      : backend_(backend), operands_(operands), lane_(lane), memory_(backend, operands, lane) {}

  std::vector<Call> operator()(const GemmWork& work) {
    Backend& b = backend_;
    const Lane lane = lane_;
    const auto [m, n, k] = std::tuple(work.m, work.n, work.k);
    const Tensor x = input({m, k}), w = input({k, n}), y = output({m, n});
    const Tensor wt = w.reshaped({n, k}), xt = x.reshaped({k, m});
    const Tensor dw(operands_.output(operands_.state(), {m, n}));
    return {[=, &b] { b.gemm(lane, false, false, x, w, y, false); },
            [=, &b] { b.gemm(lane, false, true, x, wt, y, false); },
            [=, &b] { b.gemm(lane, true, false, xt, w, dw, true); }};
  }

  std::vector<Call> operator()(const GroupedGemmWork& work) {
    Backend& b = backend_;
    const Lane lane = lane_;
    const auto rows = std::max<std::int64_t>(1, std::llround(work.rows));
    const std::int64_t groups = work.groups, n = work.n, k = work.k;
    const Tensor x = input({groups * rows, k}), w = input({groups, k, n}), y = output({groups * rows, n});
    const Tensor wt = w.reshaped({groups, n, k});
    // As weight gradient: x is [groups * k, rows], dy [groups * k, n].
    const Tensor xt = x.reshaped({groups * k, rows}), dy = w.reshaped({groups * k, n});
    const Tensor dw(operands_.output(operands_.state(), {groups, rows, n}));
    const std::vector<std::int64_t> offsets = even_offsets(groups, rows), inner = even_offsets(groups, k);
    return {[=, &b] { b.grouped_gemm(lane, x, w, false, offsets, y); },
            [=, &b] { b.grouped_gemm(lane, x, wt, true, offsets, y); },
            [=, &b] { b.grouped_gemm_weight(lane, xt, dy, inner, dw); }};
  }

  std::vector<Call> operator()(const AttentionWork& work) {
    Backend& b = backend_;
    const Lane lane = lane_;
    const AttentionShape shape{work.batch, work.sequence, work.heads, work.kv_heads, work.head_dim};
    const std::int64_t tokens = work.batch * work.sequence, width = work.heads * work.head_dim;
    const std::int64_t qkv_width = width + 2 * work.kv_heads * work.head_dim;
    const Tensor qkv = input({tokens, qkv_width});
    if (!work.backward) {
      const Tensor out = output({tokens, width});
      const Tensor lse = operands_.output(operands_.state(), {work.batch, work.heads, work.sequence});
      return {[=, &b] { b.attention(lane, shape, qkv, out, lse); }};
    }
    const Tensor out = input({tokens, width}), dout = input({tokens, width}), dqkv = output({tokens, qkv_width});
    const Tensor lse = operands_.input(operands_.state(), {work.batch, work.heads, work.sequence});
    return {[=, &b] { b.attention_backward(lane, shape, qkv, out, lse, dout, dqkv); }};
  }

  std::vector<Call> operator()(const MemoryWork& work) { return {memory_.call(work)}; }

 private:
  Tensor input(std::initializer_list<std::int64_t> shape) { return operands_.input(operands_.compute(), shape); }
  Tensor output(std::initializer_list<std::int64_t> shape) { return operands_.output(operands_.compute(), shape); }

  static std::vector<std::int64_t> even_offsets(std::int64_t groups, std::int64_t rows) {
    std::vector<std::int64_t> offsets;
    for (std::int64_t g = 0; g <= groups; ++g) offsets.push_back(g * rows);
    return offsets;
  }

  Backend& backend_;
  Operands& operands_;
  Lane lane_;
  MemoryCalls memory_;
};

std::int64_t set_count(const Work& work, DType compute, Bytes working_set) {
  const std::int64_t footprint = std::max<std::int64_t>(1, bytes(work, bytes_per_element(compute)).count());
  return std::clamp<std::int64_t>(working_set.count() / footprint, 1, 16);
}

}  // namespace

Result<KernelCalls> kernel_calls(Backend& backend, Operands& operands, const Work& work, Lane lane, Bytes working_set) {
  KernelCalls result;
  CallMaker make(backend, operands, lane);
  const std::int64_t sets = set_count(work, operands.compute(), working_set);
  for (std::int64_t set = 0; set < sets; ++set) {
    std::vector<Call> calls = std::visit(make, work);
    RETURN_IF_ERROR(operands.status());
    result.form_count = calls.size();
    for (Call& call : calls) result.calls.push_back(std::move(call));
  }
  backend.synchronize(lane);
  return result;
}

}  // namespace moecast
