#include "runtime/calibration/work_grid.h"

#include <cmath>
#include <set>
#include <tuple>

#include "runtime/calibration/kernel_bench.h"

namespace moecast {
namespace {

constexpr std::int64_t kSequence = 32;

/// A member of the family whose plans say which memory kernels there are.
struct Member {
  std::int64_t d_model;
  std::int64_t vocabulary;
  std::int64_t experts;
  std::int64_t top_k;
  std::vector<std::int64_t> tokens;
};

const std::vector<Member> kFamily = {
    {32, 64, 4, 1, {64, 1024, 8192}},    {128, 256, 8, 1, {64, 256, 512, 2048}}, {128, 256, 8, 2, {64, 512, 2048}},
    {512, 4096, 32, 2, {32, 256, 1024}}, {2048, 16384, 128, 1, {32, 128}},
};
const std::vector<Member> kLargeFamily = {
    {512, 4096, 32, 2, {512, 4096, 16384}},
    {1024, 32768, 64, 2, {512, 2048, 8192}},
    {4096, 32768, 8, 2, {512, 2048, 8192}},
    {7168, 65536, 256, 8, {512, 2048}},
};
const std::vector<Member> kHeldOutLargeFamily = {
    {768, 8192, 16, 1, {1024, 6144}},
    {2560, 50176, 48, 2, {1536, 4096}},
};
const std::vector<Member> kHeldOutFamily = {
    {96, 384, 12, 1, {96, 768}},
    {320, 1000, 6, 2, {160, 640}},
};

/// A dense block and a MoE block with a gated shared expert: together they use every kernel of a plan.
MoeModel model_of(const Member& member, PositionKind position) {
  MoeModel model;
  model.name = "calibration";
  model.d_model = member.d_model;
  model.vocabulary = member.vocabulary;
  model.max_sequence = kSequence;
  model.attention = {member.d_model / 16, member.d_model / 16, 16};
  model.position = position;
  MoeFfn moe;
  moe.expert_count = member.experts;
  moe.expert_width = 4 * member.d_model;
  moe.shared_expert_width = 4 * member.d_model;
  moe.gate.top_k = member.top_k;
  moe.capacity_factor = 1.25;
  moe.coefficient_gate = CoefficientGate::Cg1;
  model.blocks = {Block{4 * member.d_model, std::nullopt}, Block{0, moe}};
  return model;
}

/// The memory kernels of the family's plans: of each kernel and row width, sizes at least about 1.4 apart.
class MemoryWorks {
 public:
  MemoryWorks(std::int64_t bytes_per_element, double max_cost)
      : bytes_per_element_(bytes_per_element), max_cost_(max_cost) {}

  Status add(const Member& member, PositionKind position) {
    const MoeModel model = model_of(member, position);
    for (const std::int64_t tokens : member.tokens) {
      const ParallelLayout layout;
      const Batch batch{tokens / kSequence, 1, kSequence};
      const auto plan = build_step_plan({model, layout, batch, {}, bytes_per_element_, {}});
      if (!plan.ok()) return plan.error();
      for (const Operator& op : plan->operators) {
        for (const Work& work : op.work) add(work);
      }
    }
    return {};
  }
  [[nodiscard]] const std::vector<Work>& works() const { return works_; }

 private:
  void add(const Work& work) {
    const auto* memory = std::get_if<MemoryWork>(&work);
    if (memory == nullptr || estimated_cost(work) > max_cost_) return;
    const std::int64_t width = memory->rows == 1 ? 1 : memory->columns;
    const std::int64_t size = std::llround(2 * std::log2(memory->bytes.value()));
    if (known_.emplace(memory->kernel, width, size).second) works_.push_back(work);
  }

  std::int64_t bytes_per_element_;
  double max_cost_;
  std::set<std::tuple<MemoryKernel, std::int64_t, std::int64_t>> known_;
  std::vector<Work> works_;
};

Status add_memory(const std::vector<Member>& family, std::int64_t bytes_per_element, double max_cost,
                  std::vector<Work>& works) {
  MemoryWorks memory(bytes_per_element, max_cost);
  for (const Member& member : family) {
    RETURN_IF_ERROR(memory.add(member, PositionKind::Learned));
    RETURN_IF_ERROR(memory.add(member, PositionKind::Rope));
  }
  works.insert(works.end(), memory.works().begin(), memory.works().end());
  return {};
}

void add_if_cheap(const Work& work, double max_cost, std::vector<Work>& works) {
  if (estimated_cost(work) <= max_cost) works.push_back(work);
}

void add_products(const GemmAxes& axes, double max_cost, std::vector<Work>& works) {
  for (const std::int64_t m : axes.m) {
    for (const std::int64_t n : axes.n) {
      for (const std::int64_t k : axes.k) add_if_cheap(GemmWork{m, n, k}, max_cost, works);
    }
  }
}

void add_grouped_products(const GemmAxes& axes, double max_cost, std::vector<Work>& works) {
  for (const std::int64_t rows : axes.m) {
    for (const std::int64_t n : axes.n) {
      for (const std::int64_t k : axes.k) {
        const std::int64_t groups = rows <= 128 ? 8 : 4;  // groups cost the same each: two counts guard that
        add_if_cheap(GroupedGemmWork{groups, static_cast<double>(rows), n, k}, max_cost, works);
      }
    }
  }
}

void add_attention(bool accelerator, double max_cost, std::vector<Work>& works) {
  const std::vector<std::int64_t> head_dims =
      accelerator ? std::vector<std::int64_t>{64, 128} : std::vector<std::int64_t>{32, 64, 128};
  const std::vector<std::int64_t> sequences = accelerator ? std::vector<std::int64_t>{256, 1024, 2048, 4096, 8192}
                                                          : std::vector<std::int64_t>{64, 128, 256, 512, 1024};
  const std::vector<std::int64_t> head_counts =
      accelerator ? std::vector<std::int64_t>{8, 32, 128} : std::vector<std::int64_t>{2, 16};
  for (const std::int64_t head_dim : head_dims) {
    for (const std::int64_t sequence : sequences) {
      for (const std::int64_t heads : head_counts) {
        add_if_cheap(AttentionWork{1, sequence, heads, heads, head_dim, false}, max_cost, works);
        add_if_cheap(AttentionWork{1, sequence, heads, heads, head_dim, true}, max_cost, works);
      }
    }
  }
}

/// Shapes that no axis has.
void add_held_out(bool accelerator, double max_cost, std::vector<Work>& works) {
  const std::vector<GemmWork> small = {{100, 200, 300}, {512, 96, 384},  {333, 128, 100}, {768, 256, 192},
                                       {200, 12, 96},   {1000, 320, 80}, {96, 96, 2000},  {512, 384, 128},
                                       {384, 8, 128},   {24, 700, 500}};
  const std::vector<GemmWork> large = {{384, 768, 768},    {3000, 5120, 1280}, {12288, 3072, 1024}, {1536, 11008, 4096},
                                       {6144, 2560, 6912}, {700, 7168, 2304},  {5000, 48, 2560},    {2560, 6912, 3000}};
  const std::vector<GroupedGemmWork> small_groups = {{4, 160, 512, 128}, {4, 160, 128, 512}, {3, 100, 300, 200},
                                                     {6, 40, 384, 96},   {4, 128, 512, 160}, {2, 700, 96, 96}};
  const std::vector<GroupedGemmWork> large_groups = {
      {8, 300, 4096, 1280}, {6, 1500, 2560, 5120}, {16, 96, 3072, 2048}, {4, 3000, 1536, 7168}};
  for (const GemmWork& work : accelerator ? large : small) add_if_cheap(work, max_cost, works);
  for (const GroupedGemmWork& work : accelerator ? large_groups : small_groups) add_if_cheap(work, max_cost, works);
  const std::int64_t scale = accelerator ? 8 : 1;  // of sequences
  const std::int64_t wide = accelerator ? 128 : 48, narrow = accelerator ? 64 : 32, widest = accelerator ? 128 : 96;
  for (const bool backward : {false, true}) {
    add_if_cheap(AttentionWork{2, 192 * scale, 3, 3, wide, backward}, max_cost, works);
    add_if_cheap(AttentionWork{4, 96 * scale, 4, 4, narrow, backward}, max_cost, works);
    add_if_cheap(AttentionWork{1, 384 * scale, 8, 8, widest, backward}, max_cost, works);
  }
}

GemmAxes product_axes(bool accelerator) {
  if (!accelerator)
    return {{16, 64, 128, 256, 512, 1024, 4096}, {1, 8, 32, 128, 512, 2048}, {1, 8, 64, 128, 512, 2048}};
  return {{128, 512, 1024, 2048, 4096, 8192, 16384}, {8, 64, 256, 1024, 4096, 8192}, {64, 256, 1024, 2048, 4096, 8192}};
}

GemmAxes grouped_product_axes(bool accelerator) {
  if (!accelerator) return {{16, 64, 128, 256, 512, 2048}, {32, 128, 512, 2048}, {32, 128, 512, 2048}};
  return {{16, 64, 256, 1024, 4096}, {512, 1024, 2048, 4096, 8192}, {512, 1024, 2048, 4096, 8192}};
}

}  // namespace

Result<WorkGrid> calibration_grid(std::int64_t bytes_per_element, double max_cost, bool accelerator) {
  WorkGrid grid;
  grid.gemm_axes = product_axes(accelerator);
  grid.grouped_axes = grouped_product_axes(accelerator);
  RETURN_IF_ERROR(add_memory(accelerator ? kLargeFamily : kFamily, bytes_per_element, max_cost, grid.fitted));
  add_products(grid.gemm_axes, max_cost, grid.fitted);
  add_grouped_products(grid.grouped_axes, max_cost, grid.fitted);
  add_attention(accelerator, max_cost, grid.fitted);
  RETURN_IF_ERROR(
      add_memory(accelerator ? kHeldOutLargeFamily : kHeldOutFamily, bytes_per_element, max_cost, grid.held_out));
  add_held_out(accelerator, max_cost, grid.held_out);
  return grid;
}

}  // namespace moecast
