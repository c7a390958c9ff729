#include "runtime/checkpoint/shard_set.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "runtime/checkpoint/file_names.h"

namespace moecast {

namespace {

struct Plan {
  std::string name;
  std::vector<Payload> payloads;
  Bytes size{0};
};

std::vector<Plan> plan_files(ShardSetRequest& request) {
  std::vector<Plan> plans;
  for (const bool base : {true, false}) {
    std::size_t index = 0;
    bool open = false;
    for (Payload& payload : request.payloads) {
      if (payload.slice.unit.empty() != base) continue;
      if (!open || plans.back().size >= request.shard_size) {
        plans.push_back({data_file_name(request.edit, request.rank, base ? "base" : "units", index++), {}, Bytes(0)});
        open = true;
      }
      plans.back().size += payload.slice.bytes();
      plans.back().payloads.push_back(std::move(payload));
    }
  }
  return plans;
}

}  // namespace

Result<Part> write_shard_set(Environment& environment, const std::filesystem::path& folder, ShardSetRequest request,
                             const std::atomic<bool>& stop) {
  std::vector<Plan> plans = plan_files(request);
  Bytes needed{0};
  for (const Plan& plan : plans) needed += plan.size;
  const Result<Bytes> space = environment.free_space(folder);
  if (!space.ok()) return space.error();
  if (space.value() < needed) {
    return environment_error(folder, kStorageFull,
                             fmt::format("{} are free, {} are needed", pretty(space.value()), pretty(needed)));
  }
  const std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                       {"moecast.edit", std::to_string(request.edit)},
                                                       {"moecast.step", std::to_string(request.step)},
                                                       {"moecast.rank", std::to_string(request.rank)}};
  std::vector<std::optional<Result<Shard>>> shards(plans.size());
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> failed = false;
  const auto write = [&] {
    for (std::size_t i = next++; i < plans.size() && !failed; i = next++) {
      shards[i] = write_shard(environment, folder, plans[i].name, std::move(plans[i].payloads), metadata, stop);
      if (!shards[i]->ok()) failed = true;
    }
  };
  std::vector<std::thread> helpers;
  const std::size_t writers = std::min(plans.size(), static_cast<std::size_t>(std::max(request.writer_count, 1)));
  for (std::size_t i = 1; i < writers; ++i) helpers.emplace_back(write);
  write();
  for (std::thread& helper : helpers) helper.join();

  Part part;
  part.edit = request.edit;
  part.rank = request.rank;
  for (std::optional<Result<Shard>>& shard : shards) {
    if (!shard) continue;  // another one failed first
    if (!shard->ok()) return shard->error();
    for (StoredSlice slice : (*shard)->slices) {
      slice.file = part.files.size();
      part.slices.push_back(std::move(slice));
    }
    part.files.push_back((*shard)->file);
  }
  return part;
}

}  // namespace moecast
