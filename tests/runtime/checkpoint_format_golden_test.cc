#include <array>
#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/memory_environment.h"
#include "runtime/checkpoint/shard_set.h"

// The worked example of runtime/checkpoint/FORMAT.md is what we write, byte for byte.
namespace moecast {
namespace {

const std::filesystem::path kFolder = "example";

/// Rank 0 of 1 saves [1, 2, 3, 4] and an expert's [5, 6] at step 10; at step 20 only the former.
void write_example(Environment& environment) {
  const ModelIdentity model = {"tiny", {{"embedding", {2, 2}}, {"blocks.1.experts.0.w1", {2, 1}}}};
  ASSERT_EQ(open_checkpoint_folder(environment, kFolder, model).value(), 1);
  const std::array<float, 6> values = {1, 2, 3, 4, 5, 6};
  const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
  const std::atomic<bool> stop = false;
  for (const std::int64_t number : {1, 2}) {
    ShardSetRequest request;
    request.edit = number;
    request.step = 10 * number;
    request.payloads.push_back(
        {{"embedding", Component::Weight, DType::F32, {2, 2}, {0, 4}, "", 0, Bytes(0), 0}, bytes.first(16)});
    if (number == 1) {
      request.payloads.push_back({{"blocks.1.experts.0.w1",
                                   Component::Weight,
                                   DType::F32,
                                   {2, 1},
                                   {0, 2},
                                   "blocks.1.experts.0",
                                   0,
                                   Bytes(0),
                                   0},
                                  bytes.subspan(16)});
    }
    const Result<Part> part = write_shard_set(environment, kFolder, std::move(request), stop);
    ASSERT_TRUE(part.ok()) << part.error().text();
    Edit edit;
    edit.number = number;
    edit.fingerprint = model.fingerprint();
    edit.state = {10 * number, 1280 * number, "seed 7", "{}", {}};
    edit.history = extended({}, 1, number - 1);
    edit.parts = {write_part(environment, kFolder, part.value()).value()};
    ASSERT_EQ(commit_edit(environment, kFolder, edit).outcome, CommitOutcome::Committed);
  }
}

std::string hex_line(const std::string& bytes) {
  std::string out;
  for (const char byte : bytes)
    out += fmt::format("{}{:02x}", out.empty() ? "" : " ", static_cast<unsigned char>(byte));
  return out + "\n";
}

/// Names with sizes, then the JSON files of the second edit, then its payload: length, header without padding, data.
std::string example_text(Environment& environment) {
  std::string out;
  const auto names = environment.list(kFolder).value().value();
  for (const std::string& name : names) {
    out += fmt::format("{:>6} {}\n", environment.size(kFolder / name).value()->count(), name);
  }
  for (const std::string& name : {std::string("edit-000000002.json"), std::string("part-000000002-0000.json")}) {
    out += fmt::format("\n{}:\n{}", name, read_all(environment, kFolder / name).value());
  }
  const std::string payload = read_all(environment, kFolder / "data-000000002-0000-base-0.safetensors").value();
  out += "\ndata-000000002-0000-base-0.safetensors:\n";
  out += hex_line(payload.substr(0, 8));
  out += payload.substr(8, payload.find_last_of('}') - 7) + "\n";
  return out + hex_line(payload.substr(4096));
}

TEST(CheckpointFormatGolden, TheWorkedExampleIsWhatWeWrite) {
  MemoryEnvironment environment;
  write_example(environment);
  const std::string text = example_text(environment);
  const Result<std::string> page =
      read_file(std::filesystem::path(MOECAST_SOURCE_DIR) / "runtime/checkpoint/FORMAT.md");
  ASSERT_TRUE(page.ok());
  EXPECT_NE(page->find("```\n" + text + "```\n"), std::string::npos) << "FORMAT.md should hold:\n" << text;
}

}  // namespace
}  // namespace moecast
