#include "hwprofiles/import_trace.h"

#include <zlib.h>

#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "hwprofiles/profile_json.h"
#include "hwprofiles/trace_events.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

/// Writes traces as PyTorch's profiler does, event by event.
class TraceWriter {
 public:
  /// An operator with these arguments, and one kernel of so many microseconds that it launched.
  void run(const std::string& name, const std::string& dims, double us, const std::string& types = R"("c10::BFloat16")",
           const std::string& values = "") {
    ++id_;
    op(name, dims, types, values);
    kernel("kernel of " + name, us, fmt::format(R"("External id": {})", id_));
  }
  void op(const std::string& name, const std::string& dims, const std::string& types, const std::string& values) {
    event("cpu_op", name, 1,
          fmt::format(R"("External id": {}, "Input Dims": [{}], "Input type": [{}], "Concrete Inputs": [{}])", id_,
                      dims, types, values));
  }
  void kernel(const std::string& name, double us, const std::string& arguments) {
    event("kernel", name, us, arguments);
  }
  void collective(const std::string& name, std::int64_t elements, std::int64_t ranks, double us) {
    kernel("ncclDevKernel_Generic", us,
           fmt::format(R"("Collective name": "{}", "In msg nelems": {}, "Out msg nelems": {}, "dtype": "BFloat16",
                       "Group size": {})",
                       name, elements, elements, ranks));
  }
  void event(const std::string& category, const std::string& name, double us, const std::string& arguments) {
    events_ += fmt::format(R"({}{{"ph": "X", "cat": "{}", "name": "{}", "pid": 0, "tid": 7, "ts": 1740461679479712,
                           "dur": {}, "args": {{{}}}}})",
                           events_.empty() ? "" : ",\n", category, name, us, arguments);
  }
  [[nodiscard]] std::string text() const {
    return fmt::format(R"({{"schemaVersion": 1,
      "deviceProperties": [{{"id": 0, "name": "NVIDIA H100", "totalGlobalMem": 85000000000}}],
      "distributedInfo": {{"backend": "nccl", "rank": 3, "world_size": 8, "nccl_version": "2.28.9"}},
      "traceEvents": [{{"ph": "M", "name": "process_name", "pid": 0, "args": {{"name": "python"}}}},
                      {{"ph": "s", "name": "ac2g", "cat": "ac2g", "id": 1, "pid": 0, "ts": 1.5}},
                      {}], "traceName": "x"}})",
                       events_);
  }

 private:
  std::string events_;
  std::int64_t id_ = 0;
};

fs::path write(const std::string& name, const std::string& text) {
  fs::path path = fs::path(testing::TempDir()) / name;
  EXPECT_TRUE(write_file_atomically(path, text).ok());
  return path;
}

fs::path write_packed(const std::string& name, const std::string& text) {
  fs::path path = fs::path(testing::TempDir()) / name;
  const gzFile file = gzopen(path.c_str(), "wb");
  EXPECT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  gzclose(file);
  return path;
}

ImportedTrace imported(const TraceWriter& writer) {
  Result<ImportedTrace> trace = import_trace(write("trace.json", writer.text()));
  EXPECT_TRUE(trace.ok()) << (trace.ok() ? "" : trace.error().text());
  return trace.ok() ? std::move(trace).value() : ImportedTrace{};
}

const Unplaced* find(const ImportedTrace& trace, const std::string& name) {
  for (const Unplaced& each : trace.unplaced) {
    if (each.name == name) return &each;
  }
  return nullptr;
}

TEST(ImportTrace, ReadsProductsFromTheShapesOfTheirOperators) {
  TraceWriter writer;
  for (const double us : {30.0, 10.0, 20.0}) writer.run("aten::mm", "[512, 256], [256, 1024]", us);
  writer.run("aten::addmm", "[64], [128, 32], [32, 64]", 5, R"("c10::BFloat16", "c10::BFloat16", "c10::BFloat16")");
  writer.run("aten::_grouped_mm", "[4096, 256], [8, 256, 512], [8]", 70);
  const ImportedTrace trace = imported(writer);
  ASSERT_EQ(trace.kernels.size(), 3U);
  const auto& small = std::get<GemmWork>(trace.kernels[0].work);
  EXPECT_EQ(small.m, 128);
  EXPECT_EQ(small.n, 64);
  EXPECT_EQ(small.k, 32);
  EXPECT_EQ(std::get<GemmWork>(trace.kernels[1].work).n, 1024);
  EXPECT_EQ(trace.kernels[1].time, std::chrono::microseconds(20));  // the median
  const auto& grouped = std::get<GroupedGemmWork>(trace.kernels[2].work);
  EXPECT_EQ(grouped.groups, 8);
  EXPECT_EQ(grouped.rows, 512);
  EXPECT_EQ(grouped.n, 512);
  EXPECT_EQ(grouped.k, 256);
  EXPECT_EQ(trace.placed_time, trace.kernel_time);
  EXPECT_EQ(trace.origin, "PyTorch profiler trace, NVIDIA H100, rank 3 of 8, NCCL 2.28.9, 100 % of 135 us of kernels");
}

TEST(ImportTrace, KernelsOfOneOperatorCountTogether) {
  TraceWriter writer;
  const std::string types = R"("c10::BFloat16", "c10::BFloat16")";
  writer.run("aten::_flash_attention_backward", "[2, 1024, 16, 64], [2, 1024, 16, 64], [2, 1024, 4, 64]", 90, types);
  writer.kernel("flash_bwd_convert_dq", 10, R"("External id": 1)");
  const ImportedTrace trace = imported(writer);
  ASSERT_EQ(trace.kernels.size(), 1U);
  const auto& attention = std::get<AttentionWork>(trace.kernels[0].work);
  EXPECT_TRUE(attention.backward);
  EXPECT_EQ(attention.batch, 2);
  EXPECT_EQ(attention.sequence, 1024);
  EXPECT_EQ(attention.heads, 16);
  EXPECT_EQ(attention.kv_heads, 4);
  EXPECT_EQ(attention.head_dim, 64);
  EXPECT_EQ(trace.kernels[0].time, std::chrono::microseconds(100));
}

TEST(ImportTrace, ReadsMemoryBoundKernelsWithTheirBytes) {
  TraceWriter writer;
  const std::string two = R"("c10::BFloat16", "float")";
  writer.run("aten::native_layer_norm", "[4, 256, 512], [], [512]", 8);
  writer.run("aten::copy_", "[1000, 64], [1000, 64]", 6, two);
  const ImportedTrace trace = imported(writer);
  ASSERT_EQ(trace.kernels.size(), 2U);
  const auto& norm = std::get<MemoryWork>(trace.kernels[0].work);
  EXPECT_EQ(norm.kernel, MemoryKernel::Norm);
  EXPECT_EQ(norm.rows, 1024);
  EXPECT_EQ(norm.columns, 512);
  EXPECT_EQ(norm.bytes, Bytes(2 * 2 * 1024 * 512));
  const auto& cast = std::get<MemoryWork>(trace.kernels[1].work);
  EXPECT_EQ(cast.kernel, MemoryKernel::Cast);
  EXPECT_EQ(cast.bytes, Bytes(64'000 * 6));
}

TEST(ImportTrace, ReadsCollectivesOfTheGroupThatMattersMost) {
  TraceWriter writer;
  for (const double us : {100.0, 110.0, 900.0, 120.0}) writer.collective("all_to_allv", 1 << 20, 8, us);  // one waited
  writer.collective("allreduce", 1 << 16, 4, 50);
  writer.collective("barrier", 1, 8, 5);
  const ImportedTrace trace = imported(writer);
  ASSERT_EQ(trace.collectives.samples.size(), 1U);
  const LinkSample& sample = trace.collectives.samples[0];
  EXPECT_EQ(sample.communication.collective, Collective::AllToAll);
  EXPECT_EQ(sample.communication.buffer, Bytes(2 << 20));
  EXPECT_EQ(sample.ranks, 8);
  EXPECT_NEAR(seconds(sample.time), 107.5e-6, 1e-9);
  ASSERT_NE(find(trace, "collectives"), nullptr);
  EXPECT_EQ(find(trace, "collectives")->reason, "a group of 4 ranks beside 8");
  EXPECT_EQ(find(trace, "ncclDevKernel_Generic")->reason, "\"barrier\" has no place in a profile");
}

TEST(ImportTrace, SaysWhatItCouldNotPlaceAndWhy) {
  TraceWriter writer;
  writer.run("aten::mm", "[512, 256], [256, 1024]", 20);
  writer.run("aten::mm", "[512, 256], [256, 1024]", 3, R"("float")");
  writer.run("aten::bmm", "[], []", 4);
  writer.run("aten::_flash_attention_forward", "[2, 64, 4, 32], [2, 64, 4, 32]", 5, R"("c10::BFloat16")",
             R"("", "", "", "", "", "64", "64", "0.", "False")");
  writer.kernel("void deep_ep::internode::dispatch", 60, R"("correlation": 9)");
  writer.kernel("ncclDevKernel_AllGather", 8, R"("External id": 77)");
  writer.event("gpu_memcpy", "Memcpy HtoD", 1, R"("bytes": 64)");
  const ImportedTrace trace = imported(writer);
  EXPECT_EQ(trace.kernels.size(), 1U);
  ASSERT_FALSE(trace.unplaced.empty());
  EXPECT_EQ(trace.unplaced.front().name, "void deep_ep::internode::dispatch");
  EXPECT_EQ(trace.unplaced.front().reason, "no operator that a profile knows");
  EXPECT_EQ(find(trace, "aten::mm")->reason, "float beside c10::BFloat16");
  EXPECT_NE(find(trace, "aten::bmm")->reason.find("no shapes"), std::string::npos);
  EXPECT_EQ(find(trace, "aten::_flash_attention_forward")->reason, "attention that is not causal");
  EXPECT_NE(find(trace, "ncclDevKernel_AllGather")->reason.find("no sizes"), std::string::npos);
  Duration all = trace.placed_time;
  for (const Unplaced& each : trace.unplaced) all += each.time;
  EXPECT_EQ(all, trace.kernel_time);
  EXPECT_NE(trace.origin.find("20 % of"), std::string::npos) << trace.origin;
  EXPECT_NE(describe(trace).find("deep_ep::internode::dispatch: no operator"), std::string::npos) << describe(trace);
}

TEST(ImportTrace, ReadsPackedTracesAndBareLists) {
  TraceWriter writer;
  writer.run("aten::mm", "[512, 256], [256, 1024]", 20);
  const fs::path packed = write_packed("trace.json.gz", writer.text());
  EXPECT_TRUE(looks_like_trace(packed));
  const auto trace = import_trace(packed);
  ASSERT_TRUE(trace.ok()) << trace.error().text();
  EXPECT_EQ(trace->kernels.size(), 1U);
  const std::string text = writer.text();
  const std::size_t begin = text.find("\"traceEvents\": ") + 15;
  const fs::path list = write("list.json", text.substr(begin, text.rfind(']') + 1 - begin));
  EXPECT_TRUE(looks_like_trace(list));
  EXPECT_TRUE(import_trace(list).ok());
  EXPECT_FALSE(looks_like_trace(write("tests.json", R"({"results": [], "args": ["all_reduce_perf"]})")));
  EXPECT_FALSE(looks_like_trace("/no/such/file"));
}

TEST(ImportTrace, SaysWhatAFileIsNot) {
  const auto refusal = [](const fs::path& path) {
    const auto trace = import_trace(path);
    return trace.ok() ? "fine" : trace.error().text();
  };
  EXPECT_NE(refusal(write("empty.json", R"({"traceEvents": []})")).find("holds no kernels of a GPU"),
            std::string::npos);
  TraceWriter writer;
  writer.run("aten::mystery", "[512, 256]", 20);
  EXPECT_NE(refusal(write("none.json", writer.text())).find("nothing that a profile has a place for: no operator"),
            std::string::npos);
  EXPECT_NE(refusal(write("cut.json", writer.text().substr(0, 400))).find("cut.json"), std::string::npos);
  const fs::path packed = write_packed("cut.json.gz", writer.text());
  fs::resize_file(packed, fs::file_size(packed) / 2);
  EXPECT_NE(refusal(packed).find("damaged or was cut off"), std::string::npos) << refusal(packed);
}

/// A trace of a device that is exactly so many times as slow as the base says.
TEST(ImportTrace, ADeviceThatIsSlowerThanTheBaseIsFoundToBe) {
  const auto base = find_profile("h200_nvlink_8", ".");
  ASSERT_TRUE(base.ok());
  TraceWriter writer;
  const auto time = [&](const Work& work, double factor) { return 1e6 * factor * seconds(base->device.time(work)); };
  for (const std::int64_t m : {512, 1024, 2048, 4096, 8192}) {
    for (const std::int64_t n : {1024, 4096}) {
      writer.run("aten::mm", fmt::format("[{}, 2048], [2048, {}]", m, n), time(GemmWork{m, n, 2048}, 2));
    }
    MemoryWork norm{MemoryKernel::Norm, m, 2048, Bytes(4 * m * 2048)};
    writer.run("aten::native_layer_norm", fmt::format("[{}, 2048]", m), time(norm, 3));
  }
  const ImportedTrace trace = imported(writer);
  const HardwareProfile profile = with_kernels(*base, {trace});
  const auto ratio = [&](const Work& work) {
    return seconds(profile.device.time(work)) / seconds(base->device.time(work));
  };
  EXPECT_NEAR(ratio(GemmWork{2048, 4096, 2048}), 2, 0.05);
  EXPECT_NEAR(ratio(GemmWork{16384, 16384, 8192}), 2, 0.1);  // far from what was measured
  EXPECT_NEAR(ratio(MemoryWork{MemoryKernel::Norm, 1000, 4096, Bytes(16'384'000)}), 3, 0.05);
  EXPECT_EQ(profile.device.grouped_gemm, base->device.grouped_gemm);
  EXPECT_EQ(profile.device.attention_forward, base->device.attention_forward);
  EXPECT_GT(profile.fit->held_out_count, 2);
  EXPECT_LT(profile.fit->held_out_median_error, 0.05);
  EXPECT_EQ(profile.source_of("/device/gemm/rate")->reference, trace.origin);
  // It reads back: every number has a source.
  const auto document = JsonDocument::parse(to_json_text(profile), "p.json");
  ASSERT_TRUE(document.ok());
  JsonReader reader(*document);
  EXPECT_EQ(read_profile(reader), profile);
  EXPECT_TRUE(reader.finish().ok());
}

TEST(ImportTrace, CopiesToTheHostTellTheHostLink) {
  TraceWriter writer;
  writer.run("aten::mm", "[512, 256], [256, 1024]", 20);
  writer.event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1000, R"("bytes": 50000000)");
  const ImportedTrace trace = imported(writer);
  EXPECT_NEAR(trace.to_host.value(), 50e9, 1);
  const HardwareProfile profile = with_kernels(*find_profile("h200_nvlink_8", "."), {trace});
  ASSERT_TRUE(profile.node.host_link);
  EXPECT_NEAR(profile.node.host_link->bandwidth.value(), 50e9, 1);
}

}  // namespace
}  // namespace moecast
