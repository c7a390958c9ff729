/// The trainer's pure parts: text, batches, learning rate, exchange plans, parameter store, config.

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "base/json_document.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/trainer/exchange_plan.h"
#include "runtime/trainer/learning_rate.h"
#include "runtime/trainer/token_text.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

// Text and batches ----------------------------------------------------------------------------------------------------

TEST(TokenText, HoldsOutTheLastTwentieth) {
  const TextFile file(4000);
  const Result<TokenText> text = load_token_text(file.path(), 256, 16);
  ASSERT_TRUE(text.ok()) << text.error().text();
  EXPECT_EQ(text->held_out().size(), text->bytes.size() / 20);
  EXPECT_EQ(text->train().size() + text->held_out().size(), text->bytes.size());
}

TEST(TokenText, UnigramEntropyOfKnownDistributions) {
  EXPECT_DOUBLE_EQ(unigram_entropy("aaaa"), 0);
  EXPECT_DOUBLE_EQ(unigram_entropy("abab"), std::log(2));
  EXPECT_NEAR(unigram_entropy("aaab"), 0.75 * std::log(4 / 3.0) + 0.25 * std::log(4), 1e-15);
}

TEST(TokenBatch, TargetsAreTheNextBytes) {
  TokenBatch batch;
  batch.append("hello", 1, 3);
  EXPECT_EQ(batch.ids, (std::vector<std::int32_t>{'e', 'l', 'l'}));
  EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{'l', 'l', 'o'}));
}

TEST(TokenBatch, GlobalBatchDoesNotDependOnTheNumberOfRanks) {
  const TextFile file(4000);
  const Result<TokenText> text = load_token_text(file.path(), 256, 16);
  ASSERT_TRUE(text.ok());
  const auto global = [&](std::int64_t ranks, const auto& draw) {
    std::vector<std::int32_t> all;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      TokenBatch batch;
      draw(BatchShare{rank, ranks, 8 / ranks, 16}, batch);
      all.insert(all.end(), batch.ids.begin(), batch.ids.end());
    }
    return all;
  };
  const auto training = [&](const BatchShare& share, TokenBatch& out) { draw_training_batch(*text, share, 3, 5, out); };
  const auto validation = [&](const BatchShare& share, TokenBatch& out) {
    take_validation_batch(*text, share, 1, out);
  };
  for (const std::int64_t ranks : {2, 4, 8}) {
    EXPECT_EQ(global(ranks, training), global(1, training));
    EXPECT_EQ(global(ranks, validation), global(1, validation));
  }
  EXPECT_NE(global(1, training), global(1, validation));
}

TEST(TokenBatch, DrawsReachTheWholeTrainingPartAndNothingElse) {
  const TextFile file(2000);
  Result<TokenText> text = load_token_text(file.path(), 256, 8);
  ASSERT_TRUE(text.ok());
  for (std::size_t i = text->train_size; i < text->bytes.size(); ++i) text->bytes[i] = '#';
  text->bytes[0] = '<';
  text->bytes[text->train_size - 1] = '>';
  std::map<std::int32_t, int> seen;
  for (std::int64_t step = 0; step < 4000; ++step) {
    TokenBatch batch;
    draw_training_batch(*text, {0, 1, 4, 8}, 1, step, batch);
    for (const std::int32_t id : batch.ids) ++seen[id];
    for (const std::int32_t id : batch.targets) ++seen[id];
  }
  EXPECT_GT(seen['<'], 0);
  EXPECT_GT(seen['>'], 0);
  EXPECT_EQ(seen['#'], 0);
}

// Learning rate -------------------------------------------------------------------------------------------------------

TEST(LearningRate, WarmsUpLinearlyAndFallsAlongACosineToTheMinimum) {
  const LearningRateSchedule schedule{1.0, 0.1, 4, 15};
  EXPECT_DOUBLE_EQ(schedule.at(0), 0.25);
  EXPECT_DOUBLE_EQ(schedule.at(3), 1.0);
  EXPECT_DOUBLE_EQ(schedule.at(4), 1.0);
  EXPECT_DOUBLE_EQ(schedule.at(9), 0.55);  // half of the ten steps down
  EXPECT_DOUBLE_EQ(schedule.at(14), 0.1);
  for (std::int64_t step = 5; step < 15; ++step) EXPECT_LT(schedule.at(step), schedule.at(step - 1));
}

TEST(LearningRate, RunsShorterThanTheWarmUpOnlyRise) {
  const LearningRateSchedule schedule{1.0, 0.1, 10, 5};
  EXPECT_DOUBLE_EQ(schedule.at(4), 0.5);
  EXPECT_DOUBLE_EQ((LearningRateSchedule{1.0, 0.1, 0, 1}.at(0)), 1.0);
}

// Exchange plans ------------------------------------------------------------------------------------------------------

/// rows[source][expert]; every rank's plan, with `chunks`.
std::vector<ExchangePlan> plans_of(const std::vector<std::vector<std::int64_t>>& rows, std::int64_t chunks) {
  const std::size_t ranks = rows.size();
  const std::size_t local = rows[0].size() / ranks;
  std::vector<ExchangePlan> plans(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    std::vector<std::int64_t> received;
    for (std::size_t source = 0; source < ranks; ++source) {
      for (std::size_t e = 0; e < local; ++e) received.push_back(rows[source][rank * local + e]);
    }
    plan_exchange({rows[rank], received, static_cast<std::int64_t>(ranks)}, chunks, plans[rank]);
  }
  return plans;
}

/// Carries (source, expert, row) labels through a plan and checks where each lands.
void expect_right_places(const std::vector<std::vector<std::int64_t>>& rows, std::int64_t chunks) {
  const std::vector<ExchangePlan> plans = plans_of(rows, chunks);
  const std::size_t local = rows[0].size() / rows.size();
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    std::int64_t expected_row = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(chunks); ++c) {
      const ChunkExchange& own = plans[rank].chunks[c];
      EXPECT_EQ(own.first_row, expected_row);
      ASSERT_EQ(own.offsets.size(), local + 1);
      EXPECT_EQ(own.offsets.back(), own.row_count);
      std::vector<std::size_t> met(rows.size(), 0);  // segments used of each source
      for (std::size_t i = 0; i < own.expert_side.size(); ++i) {
        const Segment& in = own.expert_side[i];
        EXPECT_EQ(in.row, expected_row);
        expected_row += in.row_count;
        // The matching segment of the source: its next one to this rank.
        const auto source = static_cast<std::size_t>(in.peer);
        std::vector<Segment> sent;
        for (const Segment& out : plans[source].chunks[c].token_side) {
          if (out.peer == static_cast<int>(rank)) sent.push_back(out);
        }
        ASSERT_LT(met[source], sent.size());
        const Segment& out = sent[met[source]];
        const std::size_t expert = rank * local + met[source]++;
        std::int64_t first = 0;
        for (std::size_t e = 0; e < expert; ++e) first += rows[source][e];
        const std::int64_t total = rows[source][expert];
        EXPECT_EQ(out.row, first + static_cast<std::int64_t>(c) * total / chunks);
        EXPECT_EQ(out.row_count, in.row_count);
        // Received rows lie in their local expert's stretch.
        const std::size_t group = expert - rank * local;
        EXPECT_GE(in.row - own.first_row, own.offsets[group]);
        EXPECT_LE(in.row - own.first_row + in.row_count, own.offsets[group + 1]);
      }
    }
  }
}

TEST(ExchangePlan, SendersAndReceiversMeetWithCapacity) {
  const std::vector<std::vector<std::int64_t>> rows(2, std::vector<std::int64_t>(4, 5));
  for (const std::int64_t chunks : {1, 2, 5}) expect_right_places(rows, chunks);
}

TEST(ExchangePlan, SendersAndReceiversMeetWithUnequalCounts) {
  expect_right_places({{3, 0, 1, 2, 0, 7}, {0, 0, 0, 4, 4, 1}, {1, 2, 3, 4, 5, 6}}, 1);
  expect_right_places({{3, 0, 1, 2, 0, 7}, {0, 0, 0, 4, 4, 1}, {1, 2, 3, 4, 5, 6}}, 3);
  expect_right_places({{0, 0}}, 2);
}

// Parameter store -----------------------------------------------------------------------------------------------------

TEST(ParameterStore, LaysClassesOutOneAfterTheOtherWithoutGaps) {
  Workload workload = tiny_workload();
  use_shared_expert(workload, Shortcut::Pos2);
  const auto backend = make_cpu_backend();
  const auto parameters = parameters_of_rank(workload.model, workload.layout, Rank(0));
  const Result<ParameterStore> made = ParameterStore::make(parameters, DType::F32, *backend);
  ASSERT_TRUE(made.ok());
  const ParameterStore& store = *made;
  EXPECT_EQ(store.element_count(), count_parameters(workload.model).total);
  EXPECT_EQ(store.flat_expert(Component::Gradient).element_count(), count_parameters(workload.model).expert);
  std::int64_t offset = 0;
  int last_class = 0;
  for (const ParameterStore::Entry& entry : store.entries()) {
    EXPECT_EQ(entry.offset, offset) << entry.parameter.name;
    offset += entry.parameter.element_count();
    const int of = (entry.parameter.expert ? 2 : 0) + (entry.parameter.decay ? 0 : 1);
    EXPECT_GE(of, last_class);
    last_class = of;
  }
  EXPECT_EQ(store.tensor(Component::Weight, "blocks.0.mlp.w1").data,
            store.tensor(Component::Master, "blocks.0.mlp.w1").data);
  EXPECT_EQ(store.stacked(Component::Weight, "blocks.1.experts.0.w1", 4).data,
            store.tensor(Component::Weight, "blocks.1.experts.0.w1").data);
}

TEST(ParameterStore, KeepsCopiesOfTheWeightsInANarrowerType) {
  const Workload workload = tiny_workload();
  const auto backend = make_cpu_backend();
  auto store = std::move(ParameterStore::make(parameters_of_rank(workload.model, workload.layout, Rank(0)), DType::BF16,
                                              *backend))
                   .value();
  initialise(store, workload.model.layer_count(), 1, *backend);
  const Tensor weight = store.tensor(Component::Weight, "embedding.token");
  const Tensor master = store.tensor(Component::Master, "embedding.token");
  EXPECT_EQ(weight.dtype, DType::BF16);
  EXPECT_EQ(master.dtype, DType::F32);
  EXPECT_NE(weight.data, master.data);
  // The upper half of the float, rounded: within 2^-8 of it.
  const auto bits = static_cast<std::uint32_t>(*weight.as<std::uint16_t>()) << 16;
  EXPECT_NEAR(std::bit_cast<float>(bits), *master.as<float>(), std::abs(*master.as<float>()) / 256);
}

TEST(ParameterStore, InitialValuesFollowGpt2AndTheExpertsGlobalNumber) {
  Workload workload = tiny_workload();
  workload.layout.data = workload.layout.expert = 2;
  const auto backend = make_cpu_backend();
  const auto make = [&](const ParallelLayout& layout, Rank rank) {
    auto store =
        std::move(ParameterStore::make(parameters_of_rank(workload.model, layout, rank), DType::F64, *backend)).value();
    initialise(store, workload.model.layer_count(), 1, *backend);
    return store;
  };
  const ParameterStore whole = make({}, Rank(0));
  const ParameterStore second = make(workload.layout, Rank(1));
  const auto of = [](const ParameterStore& store, const char* name) {
    const auto view = values(store.tensor(Component::Master, name));
    return std::vector<double>(view.begin(), view.end());
  };
  EXPECT_EQ(of(second, "blocks.1.experts.3.w1"), of(whole, "blocks.1.experts.3.w1"));
  EXPECT_FALSE(second.has("blocks.1.experts.1.w1"));
  EXPECT_EQ(of(whole, "blocks.0.attention.norm.gain"), std::vector<double>(8, 1.0));
  EXPECT_EQ(of(whole, "blocks.0.mlp.b1"), std::vector<double>(12, 0.0));
  const auto deviation = [&](const char* name) {
    double squares = 0;
    const std::vector<double> all = of(whole, name);
    for (const double value : all) squares += value * value;
    return std::sqrt(squares / static_cast<double>(all.size()));
  };
  EXPECT_NEAR(deviation("blocks.0.attention.wqkv"), 0.02, 0.003);
  EXPECT_NEAR(deviation("blocks.0.mlp.w2"), 0.02 / std::sqrt(8.0), 0.0015);
}

// Config --------------------------------------------------------------------------------------------------------------

constexpr const char* kModel = R"({"name": "m", "d_model": 8, "vocabulary": 256, "max_sequence": 8,
  "attention": {"heads": 2, "kv_heads": 2, "head_dim": 4}, "activation": "gelu", "norm": "layer_norm",
  "position": "learned", "bias": true, "tie_embeddings": true, "layers": {"count": 2, "dense_width": 16}})";

std::string config_text(const std::string& training, const std::string& runtime, const std::string& more = "") {
  return fmt::format(R"({{"name": "n", "workload": {{"model": {}, "batch": {{"micro_batch": 1, "sequence": 8}}}},
    "training": {{"text": "a.txt", "steps": 5{}}}, "runtime": {{{}}}{}}})",
                     kModel, training, runtime, more);
}

Result<TrainConfig> read_config(const std::string& text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "folder/train.json", "folder");
  EXPECT_TRUE(document.ok());
  return read_train_config(*document);
}

TEST(TrainConfig, ReadsEveryFieldAndFillsDefaults) {
  const Result<TrainConfig> config = read_config(config_text(
      R"(, "seed": 9, "learning_rate": 0.01, "warmup_steps": 3)",
      R"("backend": "cpu", "link": {"latency": "200 us", "bandwidth": "100 MB/s"}, "timeout": "3 s")",
      R"(, "checkpoint": {"policy": {"kind": "async_full", "interval": 5}, "folder": "c", "retention": "all",
         "copy_rate": "1 GB/s", "settle": true},
         "faults": [{"kind": "kill_rank", "rank": 0, "step": 2, "operator": "Head.F"},
                    {"kind": "slow_disk", "step": 1, "steps": 3, "rate": "1 MB/s"}])"));
  ASSERT_TRUE(config.ok()) << config.error().text();
  EXPECT_EQ(config->seed, 9U);
  EXPECT_EQ(config->optimizer.learning_rate, 0.01);
  EXPECT_EQ(config->optimizer.beta2, 0.95);
  EXPECT_EQ(config->runtime.link->latency, Duration(200'000));
  EXPECT_EQ(config->runtime.timeout, std::chrono::seconds(3));
  EXPECT_EQ(config->checkpoint->policy.kind, CheckpointKind::AsynchronousFull);
  EXPECT_EQ(config->checkpoint->folder, "folder/c");
  EXPECT_FALSE(config->checkpoint->retention.has_value());
  EXPECT_EQ(config->checkpoint->copy_rate->value(), 1e9);
  EXPECT_TRUE(config->checkpoint->settle);
  ASSERT_EQ(config->faults.size(), 2U);
  EXPECT_EQ(config->faults[0].operator_name, "Head.F");
  EXPECT_EQ(config->faults[0].ranks, std::vector<std::int64_t>{0});
  EXPECT_EQ(config->faults[1].step_count, 3);
  EXPECT_TRUE(config->faults[1].concerns(Rank(7)));
}

TEST(TrainConfig, DrawsFaultsThatComeAgainFromTheSeed) {
  const auto faults = [](std::uint64_t seed) {
    const Result<TrainConfig> config = read_config(config_text(
        fmt::format(R"(, "seed": {})", seed), "", R"(, "faults": [{"kind": "kill_rank", "mean_steps": 1}])"));
    EXPECT_TRUE(config.ok()) << config.error().text();
    return config->faults;
  };
  EXPECT_FALSE(faults(1).empty());
  EXPECT_EQ(faults(1), faults(1));
  EXPECT_NE(faults(1), faults(2));
  for (const Fault& fault : faults(1)) EXPECT_LT(fault.step, 5);
}

TEST(TrainConfig, RefusesFaultsAndCheckpointsThatCannotBe) {
  const Result<TrainConfig> config = read_config(config_text("", "", R"(, "faults": [{"kind": "kill_rank", "step": 1},
      {"kind": "lose_node", "ranks": [], "step": 1}, {"kind": "kill_rank", "rank": 1, "step": 1}, {"kind": "slow", "step": 1}],
      "checkpoint": {"policy": {"kind": "pec", "interval": 0, "experts": 1}, "copy_rate": "0 B/s"})"));
  ASSERT_FALSE(config.ok());
  const std::string text = config.error().text();
  for (const char* part : {"/faults/0/rank", "/faults/1/ranks", "/faults/2/rank", "/faults/3/kind",
                           "/checkpoint/policy/interval", "/checkpoint/copy_rate"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
}

TEST(TrainConfig, ReportsAllProblemsTogether) {
  const Result<TrainConfig> config = read_config(config_text(
      R"(, "sed": 9, "learning_rate": -1)", R"("backend": "tpu", "link": {"latency": "200", "bandwidth": "0 B/s"})"));
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().kind, ErrorKind::BadInput);
  const std::string text = config.error().text();
  for (const char* part :
       {"/training/sed", "seed", "/training/learning_rate", "/runtime/backend", "/runtime/link/latency"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
}

TEST(TrainConfig, QuickstartConfigsLoad) {
  for (const char* name : {"top2", "top1", "shared_expert", "scmoe"}) {
    const auto path =
        std::filesystem::path(MOECAST_SOURCE_DIR) / "experiments/quickstart/train" / (std::string(name) + ".json");
    const Result<JsonDocument> document = JsonDocument::read(path);
    ASSERT_TRUE(document.ok()) << document.error().text();
    const Result<TrainConfig> config = read_train_config(*document);
    ASSERT_TRUE(config.ok()) << config.error().text();
    const Workload& workload = config->workload;
    EXPECT_TRUE(load_token_text(config->text, workload.model.vocabulary, workload.batch.sequence).ok());
    EXPECT_EQ(workload.layout.world_size(), 2);
  }
}

}  // namespace
}  // namespace moecast::testing
