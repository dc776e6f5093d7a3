// The packet path against a plain model of it, on random traffic; and against itself, in bursts of
// another size.
//
// GUIDEWAY_SEED is where the seeds begin (a failure names its own), GUIDEWAY_MODEL_SECONDS how long
// the comparison goes on.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "tests/support/random_traffic.h"

namespace guideway::testing {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

uint64_t FirstSeed() { return FromEnvironment("GUIDEWAY_SEED", 1); }

// Numbers of a generator that is the same everywhere; std::uniform_int_distribution is not.
Choose RandomChoose(std::mt19937_64& random) {
  return [&random](uint32_t n) { return static_cast<uint32_t>((random() >> 32) * n >> 32); };
}

TEST(ModelTest, SameAsThePlainPath) {
  const auto until = std::chrono::steady_clock::now() +
                     std::chrono::milliseconds(FromEnvironment("GUIDEWAY_MODEL_SECONDS", 6) * 1000);
  Seen seen;
  uint64_t seed = FirstSeed();
  // The first hundred in any case, so that what was seen does not depend on the machine.
  for (uint64_t n = 0; n < 100 || std::chrono::steady_clock::now() < until; ++n, ++seed) {
    std::mt19937_64 random(seed);
    const Traffic traffic = MakeTraffic(RandomChoose(random), {}, seen);
    const std::string difference = CompareWithModel(traffic);
    ASSERT_TRUE(difference.empty()) << difference << "GUIDEWAY_SEED=" << seed << " replays it";
  }
  for (const auto& [what, times] : seen) {
    RecordProperty("seen " + what, static_cast<int>(times));
  }
  for (const CounterInfo& verdict : kVerdictInfo) {
    EXPECT_GT(seen["verdict " + std::string(verdict.name)], 0) << verdict.name;
  }
  for (const CounterInfo& reason : kReasonInfo) {
    EXPECT_GT(seen["reason " + std::string(reason.name)], 0) << reason.name;
  }
  for (const char* what : {"flow hit", "flow new", "held", "released", "fragmented"}) {
    EXPECT_GT(seen[what], 0) << what;
  }
}

TEST(ModelTest, BurstsOfAnySizeDoTheSame) {
  for (uint64_t n = 0; n < 150; ++n) {
    const uint64_t seed = FirstSeed() + n;
    std::mt19937_64 random(seed);
    Seen seen;
    const Traffic traffic =
        MakeTraffic(RandomChoose(random), {.batches = 15, .is_for_any_burst_size = true}, seen);
    std::string error;
    const auto one = RunTraffic(traffic.batches, 1, error);
    ASSERT_EQ(error, "") << "GUIDEWAY_SEED=" << seed;
    for (const uint32_t size : {2u, 7u, 32u}) {
      const auto many = RunTraffic(traffic.batches, size, error);
      ASSERT_EQ(error, "") << "GUIDEWAY_SEED=" << seed;
      const std::string difference = CompareButIdentifications(traffic, one, many);
      ASSERT_TRUE(difference.empty())
          << difference << "GUIDEWAY_SEED=" << seed << ", bursts of " << size;
    }
  }
}

}  // namespace
}  // namespace guideway::testing
