#include "hwprofiles/import_trace.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "base/overloaded.h"
#include "base/statistics.h"
#include "hwprofiles/trace_operators.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Id = std::int64_t;

Duration microseconds(double value) { return duration_from_seconds(1e-6 * value); }

/// Equal work has equal keys; the first part is its kind.
std::vector<double> key_of(const Work& work) {
  const auto numbers = [](auto... each) { return std::vector<double>{static_cast<double>(each)...}; };
  return std::visit(Overloaded{
                        [&](const GemmWork& w) { return numbers(0, w.m, w.n, w.k); },
                        [&](const GroupedGemmWork& w) { return numbers(1, w.groups, w.rows, w.n, w.k); },
                        [&](const AttentionWork& w) {
                          return numbers(2 + w.backward, w.batch, w.sequence, w.heads, w.kv_heads, w.head_dim);
                        },
                        [&](const MemoryWork& w) {
                          return numbers(4 + static_cast<int>(w.kernel), w.bytes.count(), w.rows, w.columns);
                        },
                    },
                    work);
}

/// Every third of a row, its ends never.
template <typename Sample>
void keep_some_apart(std::vector<Sample*> row) {
  for (std::size_t i = 1; i + 1 < row.size(); ++i) row[i]->held_out = i % 3 == 2;
}

/// Gathers events, then sorts out what they are.
class TraceReader {
 public:
  void take(const TraceEvent& event) {
    if (event.category == "cpu_op" && event.external_id && is_known_operator(event.name)) {
      TracedWork traced = work_of(event);
      operators_[*event.external_id] = {event.name, std::move(traced)};
    } else if (event.category == "kernel") {
      take_kernel(event);
    } else if (event.category == "gpu_memcpy") {
      take_copy(event);
    }
  }

  Result<ImportedTrace> finish(const fs::path& path, const TraceHeader& header) {
    for (const auto& [id, launched] : kernels_) sort_out(id, launched);
    choose_element_type();
    for (const auto& [key, seen] : works_) add_sample(seen);
    add_collectives();
    if (out_.kernels.empty() && out_.collectives.samples.empty()) return nothing(path);
    apportion();
    list_unplaced();
    describe_origin(header);
    return std::move(out_);
  }

 private:
  /// Kernels of one operator.
  struct Launched {
    std::string name;  // of the longest
    double longest = 0, time = 0;
    std::int64_t count = 0;
  };
  struct Seen {
    Work work;
    std::string element_type, name;
    std::vector<double> times;
  };

  void take_kernel(const TraceEvent& event) {
    total_ += event.microseconds;
    if (event.name.find("nccl") != std::string::npos) {
      const TracedCollective traced = collective_of(event);
      if (!traced.communication) return leave_out(event.name, traced.reason, event.microseconds);
      const Communication& communication = *traced.communication;
      collectives_[event.group_size][{communication.collective, communication.buffer.count()}].push_back(
          event.microseconds);
      return;
    }
    if (!event.external_id) return leave_out(event.name, kUnknown, event.microseconds);
    Launched& launched = kernels_[*event.external_id];
    launched.time += event.microseconds;
    ++launched.count;
    if (event.microseconds <= launched.longest) return;
    launched.longest = event.microseconds;
    launched.name = event.name;
  }

  void take_copy(const TraceEvent& event) {
    constexpr std::int64_t kLargeCopy = std::int64_t{1} << 20;  // below, overhead is most of it
    total_ += event.microseconds;
    const bool to_host = event.name.find("DtoH") != std::string::npos;
    if (!to_host || !event.bytes || *event.bytes < kLargeCopy || event.microseconds <= 0) {
      return leave_out(event.name, "copies that say nothing of the host link", event.microseconds);
    }
    placed_ += event.microseconds;
    const double rate = static_cast<double>(*event.bytes) / (1e-6 * event.microseconds);
    out_.to_host = BytesPerSecond(std::max(out_.to_host.value(), rate));
  }

  void leave_out(const std::string& name, const std::string& reason, double time, std::int64_t count = 1) {
    auto& [times, seen] = left_out_[{name, reason}];
    times += time;
    seen += count;
  }

  void sort_out(Id id, const Launched& launched) {
    const auto found = operators_.find(id);
    if (found == operators_.end()) return leave_out(launched.name, kUnknown, launched.time, launched.count);
    const auto& [name, traced] = found->second;
    if (!traced.work) return leave_out(name, traced.reason, launched.time, launched.count);
    std::vector<double> key = key_of(*traced.work);
    Seen& seen = works_[{std::move(key), traced.element_type}];
    if (seen.times.empty()) seen = {*traced.work, traced.element_type, name, {}};
    seen.times.push_back(launched.time);
  }

  static bool is_product(const Work& work) { return !std::holds_alternative<MemoryWork>(work); }
  static double sum(const std::vector<double>& times) { return std::accumulate(times.begin(), times.end(), 0.0); }

  /// A profile has the rates of one type: the one that products spend most time in.
  void choose_element_type() {
    std::map<std::string, double> times;
    for (const auto& [key, seen] : works_) {
      if (is_product(seen.work)) times[seen.element_type] += sum(seen.times);
    }
    double most = 0;
    for (const auto& [type, time] : times) {
      if (time <= most) continue;
      most = time;
      element_type_ = type;
    }
  }

  void add_sample(const Seen& seen) {
    const double total = sum(seen.times);
    if (is_product(seen.work) && seen.element_type != element_type_) {
      return leave_out(seen.name, fmt::format("{} beside {}", seen.element_type, element_type_), total,
                       static_cast<std::int64_t>(seen.times.size()));
    }
    if (median(seen.times) <= 0) return;
    placed_ += total;
    out_.kernels.push_back({seen.work, microseconds(median(seen.times)), false});
  }

  void add_collectives() {
    std::map<std::int64_t, double> times;
    for (const auto& [ranks, by_size] : collectives_) {
      for (const auto& [size, each] : by_size) times[ranks] += sum(each);
    }
    const auto most =
        std::max_element(times.begin(), times.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [ranks, by_size] : collectives_) {
      if (ranks != most->first) {
        leave_out("collectives", fmt::format("a group of {} ranks beside {}", ranks, most->first), times[ranks]);
        continue;
      }
      for (const auto& [size, each] : by_size) {
        placed_ += sum(each);
        out_.collectives.samples.push_back(
            {{size.first, Group::World, Bytes(size.second)}, ranks, microseconds(quantile(each, 0.25)), false});
      }
    }
  }

  /// Samples are in the order of their kinds.
  void apportion() {
    std::map<double, std::vector<KernelSample*>> by_kind;
    for (KernelSample& sample : out_.kernels) by_kind[key_of(sample.work).front()].push_back(&sample);
    for (auto& [kind, row] : by_kind) keep_some_apart(std::move(row));
  }

  void list_unplaced() {
    for (const auto& [key, seen] : left_out_) {
      out_.unplaced.push_back({key.first, key.second, seen.second, microseconds(seen.first)});
    }
    std::stable_sort(out_.unplaced.begin(), out_.unplaced.end(),
                     [](const Unplaced& a, const Unplaced& b) { return a.time > b.time; });
    out_.kernel_time = microseconds(total_);
    out_.placed_time = microseconds(placed_);
  }

  void describe_origin(const TraceHeader& header) {
    out_.device = header.device;
    std::string text = "PyTorch profiler trace";
    if (!header.device.empty()) text += ", " + header.device;
    if (header.world_size > 0) text += fmt::format(", rank {} of {}", header.rank, header.world_size);
    if (!header.nccl_version.empty()) text += ", NCCL " + header.nccl_version;
    out_.origin = fmt::format("{}, {:.0f} % of {} of kernels", text, 100 * placed_ / total_, pretty(out_.kernel_time));
    out_.collectives.origin = out_.origin;
  }

  [[nodiscard]] Error nothing(const fs::path& path) const {
    if (total_ == 0) return {ErrorKind::BadInput, path.string(), "holds no kernels of a GPU"};
    std::string reasons;
    for (const auto& [key, seen] : left_out_) {
      if (reasons.find(key.second) != std::string::npos) continue;
      reasons += (reasons.empty() ? "" : "; ") + key.second;
    }
    return {ErrorKind::BadInput, path.string(), "holds nothing that a profile has a place for: " + reasons};
  }

  static constexpr const char* kUnknown = "no operator that a profile knows";

  ImportedTrace out_;
  std::map<Id, std::pair<std::string, TracedWork>> operators_;
  std::map<Id, Launched> kernels_;
  std::map<std::pair<std::vector<double>, std::string>, Seen> works_;
  std::map<std::int64_t, std::map<std::pair<Collective, std::int64_t>, std::vector<double>>> collectives_;
  std::map<std::pair<std::string, std::string>, std::pair<double, std::int64_t>> left_out_;
  std::string element_type_;
  double total_ = 0, placed_ = 0;  // microseconds
};

}  // namespace

Result<ImportedTrace> import_trace(const fs::path& path) {
  TraceReader reader;
  const Result<TraceHeader> header = read_trace(path, [&](const TraceEvent& event) { reader.take(event); });
  if (!header.ok()) return header.error();
  return reader.finish(path, *header);
}

std::string describe(const ImportedTrace& trace) {
  constexpr std::size_t kShown = 12;
  std::string text = fmt::format("{}\n  {} shapes of kernels, {} sizes of collectives\n", trace.origin,
                                 trace.kernels.size(), trace.collectives.samples.size());
  if (!trace.unplaced.empty()) text += "  not placed:\n";
  for (std::size_t i = 0; i < std::min(kShown, trace.unplaced.size()); ++i) {
    const Unplaced& each = trace.unplaced[i];
    text += fmt::format("  {:>10} {:>6} x {:.60}: {}\n", pretty(each.time), each.count, each.name, each.reason);
  }
  if (trace.unplaced.size() > kShown) text += fmt::format("  and {} more\n", trace.unplaced.size() - kShown);
  return text;
}

}  // namespace moecast
