#include "models/workload.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "models/state_inventory.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kZoo = std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo";

Result<Workload> parse(const std::string& text, const std::string& name = "workload.json") {
  const Result<JsonDocument> document = JsonDocument::parse(text, name);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  Workload workload = read_workload(reader);
  RETURN_IF_ERROR(reader.finish());
  return workload;
}

Json minimal() {
  return Json::parse(R"({"workload": {
      "model": {"name": "m", "d_model": 64, "vocabulary": 256, "max_sequence": 128, "attention": {"heads": 4},
                "layers": {"count": 2, "dense_width": 256, "moe_every": 2},
                "moe": {"experts": 8, "expert_width": 256, "router": {"top_k": 2}, "capacity_factor": 1.25}},
      "batch": {"sequence": 128}}})");
}

std::string patched(const std::string& patch) {
  Json json = minimal();
  json["workload"].merge_patch(Json::parse(patch));
  return json.dump();
}

std::vector<std::string> problems(const std::string& patch) {
  const Result<Workload> workload = parse(patched(patch));
  std::vector<std::string> out;
  if (workload.ok()) return out;
  for (const Problem& problem : workload.error().problems) out.push_back(problem.pointer + " " + problem.code);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Workload, MostIsOptional) {
  const Result<Workload> workload = parse(minimal().dump());
  ASSERT_TRUE(workload.ok()) << workload.error().text();
  EXPECT_EQ(workload->layout, ParallelLayout{});
  EXPECT_EQ(workload->batch, (Batch{1, 1, 128}));
  EXPECT_EQ(workload->schedule, Schedule{});
  EXPECT_EQ(workload->bytes_per_element, 4);
}

TEST(Workload, ReadsBackWhatItWrites) {
  for (const char* patch :
       {"{}",
        R"({"parallel": {"data": 4, "expert": 2, "zero_stage": 1}, "batch": {"micro_batch": 4, "micro_batch_count": 3},
            "schedule": {"kind": "shortcut", "chunks": 2, "forward_slot": "auto", "backward_slot": 2},
            "precision": "bf16"})",
        R"({"schedule": {"kind": "pipelined", "chunks": 4}, "precision": "f64"})",
        R"({"parallel": {"data": 2, "expert": 4, "tensor": 2, "pipeline": 2, "zero_stage": 3, "context": 2,
                         "sequence_parallel": true, "virtual_stages": 1, "pipeline_schedule": "zero_bubble",
                         "recomputation": "full"}})",
        R"({"model": {"layers": {"count": 8}}, "batch": {"micro_batch_count": 4},
            "parallel": {"pipeline": 2, "virtual_stages": 3, "uneven_stages": true, "pipeline_schedule": "interleaved",
                         "recomputation": "selective"}})"}) {
    const Result<Workload> workload = parse(patched(patch));
    ASSERT_TRUE(workload.ok()) << workload.error().text();
    const Result<Workload> again = parse(Json{{"workload", to_json(*workload)}}.dump());
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(*again, *workload) << patch;
  }
}

TEST(Workload, ReportsEveryProblemTogether) {
  EXPECT_EQ(
      problems(R"({"model": {"d_model": -4}, "parallel": {"expert": 3, "data": 4, "recomputation": "some", "tenser": 1},
                         "batch": {"sequence": null}, "schedule": {"kind": "shortcuts", "forward_slot": "none"},
                         "precision": "fp32"})"),
      (std::vector<std::string>{"/workload/batch/sequence missing-key", "/workload/model/d_model out-of-range",
                                "/workload/parallel/recomputation unknown-value",
                                "/workload/parallel/tenser unknown-key", "/workload/precision unknown-value",
                                "/workload/schedule/forward_slot out-of-range",
                                "/workload/schedule/kind unknown-value"}));
}

TEST(Workload, ChecksWhatHoldsBetweenItsParts) {
  using Found = std::vector<std::string>;
  EXPECT_EQ(problems(R"({"parallel": {"data": 3, "expert": 3}})"), Found{"/workload/parallel conflict"});
  EXPECT_EQ(problems(R"({"parallel": {"data": 4, "expert": 3}})"), Found{"/workload/parallel conflict"});
  EXPECT_EQ(problems(R"({"parallel": {"sequence_parallel": true}})"), Found{"/workload/parallel conflict"});
  EXPECT_EQ(problems(R"({"parallel": {"pipeline": 3}})"), Found{"/workload/parallel conflict"});
  EXPECT_EQ(problems(R"({"parallel": {"tensor": 2}})"), Found{"/workload/parallel conflict"});
  EXPECT_EQ(problems(R"({"batch": {"sequence": 129}})"), Found{"/workload/batch conflict"});
  EXPECT_EQ(problems(R"({"schedule": {"forward_slot": 0}})"), Found{"/workload/schedule/forward_slot out-of-range"});
  EXPECT_EQ(problems(R"({"schedule": {"forward_slot": true}})"), Found{"/workload/schedule/forward_slot wrong-type"});
}

TEST(Workload, TheModelMayBeAFileRelativeToItsOwn) {
  const std::string text = R"({"workload": {"model": "quickstart_scmoe.json", "batch": {"sequence": 64}}})";
  const Result<Workload> workload = parse(text, (kZoo / "workload.json").string());
  ASSERT_TRUE(workload.ok()) << workload.error().text();
  EXPECT_EQ(workload->model.name, "quickstart-scmoe");
}

TEST(Workload, ProblemsOfTheModelFileStandBesideItsOwn) {
  const std::filesystem::path folder(testing::TempDir());
  ASSERT_TRUE(write_file_atomically(folder / "broken_model.json",
                                    minimal()["workload"]["model"].dump().replace(0, 1, "{\n\"nam\": 1,"))
                  .ok());
  const std::string text = R"({"workload": {"model": "broken_model.json", "batch": {"sequence": 0}}})";
  const Result<Workload> workload = parse(text, (folder / "workload.json").string());
  ASSERT_FALSE(workload.ok());
  const std::vector<Problem>& found = workload.error().problems;
  ASSERT_EQ(found.size(), 2U) << workload.error().text();
  EXPECT_NE(found[0].file.find("broken_model.json"), std::string::npos);
  EXPECT_EQ(found[0].line, 2);
  EXPECT_NE(found[1].file.find("workload.json"), std::string::npos);

  const Result<Workload> missing = parse(R"({"workload": {"model": "none.json", "batch": {"sequence": 1}}})");
  ASSERT_FALSE(missing.ok());
  ASSERT_EQ(missing.error().problems.size(), 1U);
  EXPECT_EQ(missing.error().problems[0].pointer, "/workload/model");
}

TEST(Workload, EveryModelOfTheZooHasAPlanWhoseGradientsAreItsParameters) {
  for (const auto& entry : std::filesystem::directory_iterator(kZoo)) {
    if (entry.path().extension() != ".json") continue;
    const std::int64_t degree = entry.path().stem() == "deepseek_moe_2b" ? 3 : 2;  // 63 experts there
    const Json json = {{"workload",
                        {{"model", entry.path().string()},
                         {"parallel", {{"data", 6}, {"expert", degree}}},
                         {"batch", {{"sequence", 64}}}}}};
    const Result<Workload> workload = parse(json.dump());
    ASSERT_TRUE(workload.ok()) << workload.error().text();
    const Result<StepPlan> plan = build_step_plan(request_of(*workload));
    ASSERT_TRUE(plan.ok()) << plan.error().text();
    std::int64_t reduced = 0;
    for (const Operator& op : plan->operators) {
      if (op.kind == OpKind::GradientReduce) reduced += op.communication->buffer.count();
    }
    const ParameterCount count = count_parameters(workload->model);
    EXPECT_EQ(reduced, 4 * (count.total - count.expert + count.expert / degree)) << workload->model.name;
    EXPECT_EQ(rank_memory(workload->model, workload->layout, Rank(3), precision_of(4)).gradient, Bytes(reduced));
  }
}

TEST(Workload, ARequestRefersToIt) {
  const Result<Workload> workload = parse(minimal().dump());
  ASSERT_TRUE(workload.ok());
  const StepPlanRequest request = request_of(*workload);
  EXPECT_EQ(&request.model, &workload->model);
  EXPECT_TRUE(build_step_plan(request).ok());
}

}  // namespace
}  // namespace moecast
