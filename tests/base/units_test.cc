#include "base/units.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace moecast {
namespace {

TEST(Units, BitsAndBytesAndBinaryPrefixesDiffer) {
  EXPECT_EQ(*parse_bytes("80 GiB"), Bytes(80LL << 30));
  EXPECT_EQ(*parse_bytes("80GB"), Bytes(80'000'000'000));
  EXPECT_EQ(*parse_bytes_per_second("400 Gb/s"), BytesPerSecond(50e9));
  EXPECT_EQ(*parse_bytes_per_second("50 GB/s"), BytesPerSecond(50e9));
  EXPECT_EQ(*parse_duration("1.5 ms"), Duration(1'500'000));
  EXPECT_EQ(*parse_duration("2 h"), Duration(7'200'000'000'000));
  EXPECT_EQ(*parse_flops_per_second("312 TFLOP/s"), FlopsPerSecond(312e12));
}

TEST(Units, WhatIsNotAQuantityIsBadInput) {
  for (const char* text : {"80", "0", "", "GiB", "80 gib", "80 Gb", "-1 GiB", "inf GiB", "nan GiB", "+5 GiB",
                           "1e400 GiB", "80 GiB x", "8 0 GiB", "9e30 B"}) {
    const Result<Bytes> parsed = parse_bytes(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::BadInput);
  }
  EXPECT_NE(parse_bytes("80").error().message.find("80 GiB"), std::string::npos);
}

TEST(Units, TextParsesBackToTheSameValue) {
  for (const std::int64_t count : {0LL, 1LL, 999LL, 1000LL, 1024LL, 1500LL, 123456789LL, 80LL << 30,
                                   7'200'000'000'000LL, (1LL << 53) + 1, 9'223'372'036'854'775'807LL}) {
    EXPECT_EQ(parse_bytes(to_text(Bytes(count)))->count(), count) << to_text(Bytes(count));
    EXPECT_EQ(parse_duration(to_text(Duration(count)))->count(), count) << to_text(Duration(count));
    EXPECT_EQ(parse_bytes_per_second(to_text(BytesPerSecond(count / 3.0)))->count(), count / 3.0);
  }
  EXPECT_EQ(to_text(Duration(12'000)), "12 us");
  EXPECT_EQ(to_text(BytesPerSecond(50e9)), "50 GB/s");
  EXPECT_EQ(pretty(Duration(1'234'567)), "1.23 ms");
  EXPECT_EQ(pretty(Duration(999'999)), "1.00 ms");
  EXPECT_EQ(pretty(Duration(-1'234'567)), "-1.23 ms");
  EXPECT_EQ(pretty(Bytes(5)), "5 B");
  EXPECT_EQ(pretty(Bytes(1 << 20)), "1.05 MB");
  EXPECT_EQ(pretty(FlopsPerSecond(312e12)), "312 TFLOP/s");
}

TEST(Units, RealSecondsRoundUpToTicks) {
  EXPECT_EQ(duration_from_seconds(1e-9), Duration(1));
  EXPECT_EQ(duration_from_seconds(1.1e-9), Duration(2));
  EXPECT_EQ(Bytes(1000) / BytesPerSecond(3e9), Duration(334));
}

}  // namespace
}  // namespace moecast
