#include "runtime/comm/launch.h"

#include <charconv>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace moecast {
namespace {

constexpr int kMostRanks = 1'000'000;
constexpr int kHighestPort = 65'535;

/// Reads variables and collects what is wrong with them.
class Variables {
 public:
  explicit Variables(const EnvironmentLookup& environment) : environment_(environment) {}

  [[nodiscard]] std::string text(const char* name) const { return environment_(name); }
  [[nodiscard]] bool has(const char* name) const { return !text(name).empty(); }
  /// No value if it is not set; a problem if it is no integer in low..high.
  std::optional<int> integer(const char* name, int low, int high) {
    const std::string value = text(name);
    if (value.empty()) return std::nullopt;
    int number = 0;
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (code == std::errc() && end == value.data() + value.size() && number >= low && number <= high) return number;
    problem(fmt::format("{}: expected an integer in {}..{}, found \"{}\"", name, low, high, value));
    return std::nullopt;
  }
  std::optional<int> required_integer(const char* name, int low, int high) {
    if (!has(name)) problem(fmt::format("{} is not set", name));
    return integer(name, low, high);
  }
  /// Of the rank in `size` processes, if that is known.
  std::optional<int> rank(const char* name, std::optional<int> size) {
    return required_integer(name, 0, size.value_or(kMostRanks) - 1);
  }
  /// The first of several names that is set.
  [[nodiscard]] const char* first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (has(name)) return name;
    }
    return nullptr;
  }
  void problem(std::string text) { problems_.push_back(std::move(text)); }

  /// `launch`, or all problems.
  Result<Launch> finish(Launch launch) const {
    if (problems_.empty()) return launch;
    return Error{ErrorKind::BadInput, "environment", fmt::format("{}", fmt::join(problems_, "; "))};
  }

 private:
  const EnvironmentLookup& environment_;
  std::vector<std::string> problems_;
};

/// Set by Open MPI, by launchers that speak PMIx (srun among them), by MPICH.
const char* mpi_rank_variable(const Variables& variables) {
  return variables.first_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"});
}

std::optional<int> mpi_size(Variables& variables) {
  const char* name = variables.first_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"});
  return name == nullptr ? std::nullopt : variables.integer(name, 1, kMostRanks);
}

void expect_same(Variables& variables, const char* name, int value, const char* other_name, std::optional<int> other) {
  if (!other || *other == value) return;
  variables.problem(fmt::format("{} is {}, but {} is {}: unset those of the launcher that did not start this process",
                                name, value, other_name, *other));
}

Launch read_variables(Variables& variables) {
  Launch launch;
  launch.by = Launch::By::Variables;
  const std::optional<int> size = variables.required_integer("WORLD_SIZE", 1, kMostRanks);
  launch.size = size.value_or(0);
  launch.rank = variables.rank("RANK", size).value_or(0);
  launch.local_rank = variables.integer("LOCAL_RANK", 0, kMostRanks).value_or(launch.rank);
  if (launch.size == 1) return launch;
  launch.address = variables.text("MASTER_ADDR");
  if (launch.address.empty()) variables.problem("MASTER_ADDR is not set (the host of rank 0)");
  launch.port = variables.required_integer("MASTER_PORT", 1, kHighestPort).value_or(0);
  if (variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True") ++launch.port;
  if (const char* name = mpi_rank_variable(variables)) {
    expect_same(variables, "RANK", launch.rank, name, variables.integer(name, 0, kMostRanks));
    expect_same(variables, "WORLD_SIZE", launch.size, "the MPI launcher's number of processes", mpi_size(variables));
  }
  return launch;
}

Launch read_mpi(Variables& variables) {
  Launch launch;
  launch.by = Launch::By::Mpi;
  launch.rank = variables.integer(mpi_rank_variable(variables), 0, kMostRanks).value_or(0);
  launch.size = mpi_size(variables).value_or(0);
  const char* local = variables.first_of({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"});
  launch.local_rank = local == nullptr ? launch.rank : variables.integer(local, 0, kMostRanks).value_or(0);
  return launch;
}

/// A batch script has SLURM_PROCID too, but no list of its step's hosts.
bool in_slurm_step(const Variables& variables) {
  return variables.has("SLURM_PROCID") && variables.has("SLURM_STEP_NODELIST");
}

Launch read_slurm(Variables& variables) {
  Launch launch;
  launch.by = Launch::By::Slurm;
  const char* of_step = "SLURM_STEP_NUM_TASKS";
  const std::optional<int> size =
      variables.required_integer(variables.has(of_step) ? of_step : "SLURM_NTASKS", 1, kMostRanks);
  launch.size = size.value_or(0);
  launch.rank = variables.rank("SLURM_PROCID", size).value_or(0);
  launch.local_rank = variables.integer("SLURM_LOCALID", 0, kMostRanks).value_or(launch.rank);
  launch.address = variables.text("MASTER_ADDR");
  if (launch.address.empty()) launch.address = first_slurm_host(variables.text("SLURM_STEP_NODELIST"));
  const int job = variables.integer("SLURM_JOB_ID", 0, 2'000'000'000).value_or(0);
  const int step = variables.integer("SLURM_STEP_ID", 0, 2'000'000'000).value_or(0);
  // Below the ports that systems hand out by themselves.
  const int own_port = 20'000 + static_cast<int>((std::int64_t{job} * 61 + step) % 10'000);
  launch.port = variables.integer("MASTER_PORT", 1, kHighestPort).value_or(own_port);
  return launch;
}

}  // namespace

std::string first_slurm_host(std::string_view list) {
  std::string host;
  bool inside = false, taken = false;  // of brackets; their first number
  for (const char c : list) {
    if (!inside && c == ',') break;
    if (c == '[') {
      inside = true;
      taken = false;
    } else if (c == ']') {
      inside = false;
    } else if (inside && (c == ',' || c == '-')) {
      taken = true;
    } else if (!inside || !taken) {
      host += c;
    }
  }
  return host;
}

Result<Launch> read_launch(const EnvironmentLookup& environment, bool has_mpi) {
  Variables variables(environment);
  if (variables.has("RANK") || variables.has("WORLD_SIZE")) {
    const Result<Launch> launch = variables.finish(read_variables(variables));
    if (!launch.ok() || launch->size > 1) return launch;
  }
  const bool in_step = in_slurm_step(variables);
  if (mpi_rank_variable(variables) != nullptr && (has_mpi || !in_step)) return variables.finish(read_mpi(variables));
  if (!in_step) return Launch{};
  const Result<Launch> launch = variables.finish(read_slurm(variables));
  if (launch.ok() && launch->size == 1) return Launch{};
  return launch;
}

}  // namespace moecast
