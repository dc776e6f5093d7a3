#include "maglev/schedulers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "maglev/turns.h"

namespace guideway {
namespace {

using Weights = std::vector<uint32_t>;

Weights CountTurns(absl::Span<const uint16_t> turns, size_t n) {
  Weights counts(n);
  for (uint16_t i : turns) ++counts[i];
  return counts;
}

TEST(TurnsByWeight, AreTheWeightsWithoutTheirCommonDivisor) {
  EXPECT_EQ(TurnsByWeight(Weights{100, 200}), (std::vector<uint16_t>{1, 0, 1}));
  EXPECT_EQ(TurnsByWeight(Weights{700, 0, 700}), (std::vector<uint16_t>{0, 2}));
  EXPECT_EQ(TurnsByWeight(Weights{655350}), (std::vector<uint16_t>{0}));
  EXPECT_EQ(TurnsByWeight(Weights{655350, 10}).size(), 65536u) << "the longest exact one";
  std::mt19937 random(1);
  for (int round = 0; round < 150; ++round) {
    Weights weights(1 + random() % 100);
    for (uint32_t& w : weights) w = random() % 600;
    const uint32_t divisor = std::accumulate(weights.begin(), weights.end(), 0u,
                                             [](uint32_t a, uint32_t b) { return std::gcd(a, b); });
    Weights exact = weights;
    for (uint32_t& w : exact) w = divisor == 0 ? 0 : w / divisor;
    for (uint32_t& w : weights) w *= 1000;
    const std::vector<uint16_t> turns = TurnsByWeight(weights);
    ASSERT_EQ(CountTurns(turns, weights.size()), exact) << "round " << round;
    ASSERT_EQ(turns, SpreadTurns(exact)) << "round " << round;
  }
}

TEST(TurnsByWeight, AreRoundedWhereTheyWouldBeTooMany) {
  EXPECT_EQ(TurnsByWeight(Weights{65535, 2}).size(), kMaxTurns);
  EXPECT_EQ(CountTurns(TurnsByWeight(Weights{655350, 1, 655350}), 3), (Weights{32768, 0, 32768}));
  std::mt19937 random(2);
  for (int round = 0; round < 20; ++round) {
    Weights weights(2 + random() % 1000);
    for (uint32_t& w : weights) w = 1 + random() % 655350;
    weights.front() = 655349;  // a prime number, and over kMaxTurns
    const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
    const std::vector<uint16_t> turns = TurnsByWeight(weights);
    ASSERT_EQ(turns.size(), kMaxTurns);
    const Weights counts = CountTurns(turns, weights.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_GE(counts[i], uint64_t{kMaxTurns} * weights[i] / sum);
      ASSERT_LE(counts[i], (uint64_t{kMaxTurns} * weights[i] + sum - 1) / sum);
    }
  }
  const std::vector<uint16_t> most = TurnsByWeight(Weights(65535, 655350));
  EXPECT_EQ(most.size(), 65535u);
}

TEST(TurnsByWeight, AreNoneOfNobody) {
  EXPECT_TRUE(TurnsByWeight(Weights{}).empty());
  EXPECT_TRUE(TurnsByWeight(Weights{0, 0}).empty());
}

// Measures the random numbers that each one has, of 2^64, by bisection: within a column the pick
// changes once at most.
std::vector<double> Probabilities(const WeightedPicks& picks, size_t n) {
  using Wide = unsigned __int128;
  std::vector<double> result(n);
  const Wide columns = picks.size();
  const auto begin_of = [&](Wide c) { return ((c << 64) + columns - 1) / columns; };
  for (Wide c = 0; c < columns; ++c) {
    const Wide begin = begin_of(c), end = begin_of(c + 1);
    const uint16_t first = picks.Pick(static_cast<uint64_t>(begin));
    const uint16_t last = picks.Pick(static_cast<uint64_t>(end - 1));
    Wide low = begin, high = end;  // the last that is certainly `first`; the first that is not
    if (first != last) {
      --high;
      while (low + 1 < high) {
        const Wide middle = low + (high - low) / 2;
        (picks.Pick(static_cast<uint64_t>(middle)) == first ? low : high) = middle;
      }
    }
    result[first] += std::ldexp(static_cast<double>(high - begin), -64);
    result[last] += std::ldexp(static_cast<double>(end - high), -64);
  }
  return result;
}

TEST(WeightedPicks, HaveTheProbabilitiesOfTheWeights) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Weights weights(1 + random() % (round % 10 ? 50 : 3000));
    for (uint32_t& w : weights) {
      w = round % 3 == 0   ? 1 + random() % 655350
          : round % 3 == 1 ? random() % 4
                           : (random() % 2 ? 655350 : 1);
    }
    const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
    const WeightedPicks picks(weights);
    ASSERT_EQ(picks.size(), weights.size() - std::ranges::count(weights, 0u));
    ASSERT_EQ(picks.empty(), sum == 0);
    if (sum == 0) continue;
    const std::vector<double> is = Probabilities(picks, weights.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      // A column is cut to the 2^-32 of it.
      ASSERT_NEAR(is[i], double(weights[i]) / sum, std::ldexp(1, -32)) << "round " << round;
      if (weights[i] == 0) {
        ASSERT_EQ(is[i], 0) << "round " << round;
      }
    }
  }
}

// The same in a simple way, for small ones: evenly spaced numbers instead of random ones.
TEST(WeightedPicks, ByEvenlySpacedNumbers) {
  for (const Weights& weights :
       {Weights{1}, {1, 1}, {1, 3}, {0, 1, 0, 2, 0}, {100, 100, 100}, {5, 1, 1, 1}, {655350, 1}}) {
    const WeightedPicks picks(weights);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<int> counts(weights.size());
    constexpr uint64_t kNumbers = 1 << 20;
    for (uint64_t i = 0; i < kNumbers; ++i) ++counts[picks.Pick(i << 44)];
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_NEAR(counts[i], kNumbers * weights[i] / sum, 4);
      if (weights[i] == 0) {
        EXPECT_EQ(counts[i], 0);
      }
    }
  }
}

TEST(WeightedPicks, AreExactWhereTheColumnsCanBe) {
  EXPECT_EQ(Probabilities(WeightedPicks(Weights{1, 3}), 2), (std::vector{0.25, 0.75}));
  EXPECT_EQ(Probabilities(WeightedPicks(Weights{1, 2, 4, 1}), 4),
            (std::vector{0.125, 0.25, 0.5, 0.125}));
}

TEST(WeightedPicks, OfOneAndOfNobody) {
  const WeightedPicks one(Weights{0, 0, 7, 0});
  EXPECT_EQ(one.size(), 1u);
  for (uint64_t random : {uint64_t{0}, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_EQ(one.Pick(random), 2);
  }
  EXPECT_TRUE(WeightedPicks().empty());
  EXPECT_TRUE(WeightedPicks(Weights{}).empty());
  EXPECT_TRUE(WeightedPicks(Weights{0, 0}).empty());
}

TEST(WeightedPicks, OfAsManyAsThereMayBe) {
  Weights weights(65535, 655350);
  for (size_t i = 0; i < weights.size(); i += 2) weights[i] = 1 + i;
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  const std::vector<double> is = Probabilities(WeightedPicks(weights), weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    ASSERT_NEAR(is[i], double(weights[i]) / sum, std::ldexp(1, -32)) << i;
  }
}

}  // namespace
}  // namespace guideway
