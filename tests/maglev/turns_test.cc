#include "maglev/turns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

#include "tests/support/plain_maglev.h"

namespace guideway {
namespace {

using Weights = std::vector<uint32_t>;

// All sorts of pools: equal, small numbers, any weight, extremes side by side, tenths of shares.
Weights RandomWeights(std::mt19937& random, uint32_t most) {
  Weights weights(1 + random() % most);
  const uint32_t kind = random() % 6;
  const uint32_t equal = 1 + random() % 65535;
  for (uint32_t& w : weights) {
    switch (kind) {
      case 0: w = equal; break;
      case 1: w = 1 + random() % 9; break;
      case 2: w = 1 + random() % 65535; break;
      case 3: w = random() % 2 ? 65535 : 1; break;
      case 4: w = (1 + random() % 65535) * (random() % 11); break;
      default: w = random() % 8 == 0 ? 655350 : random() % 3; break;
    }
  }
  return weights;
}

std::string Letters(absl::Span<const uint16_t> turns) {
  std::string result;
  for (uint16_t i : turns) result += static_cast<char>('a' + i);
  return result;
}

TEST(Apportion, GivesTheFloorOrTheCeilingAndAllThereIs) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const Weights weights = RandomWeights(random, 300);
    const uint32_t total = round % 2 ? random() % 70000 : random() % 16777213;
    const std::vector<uint32_t> quotas = Apportion(weights, total);
    ASSERT_EQ(quotas.size(), weights.size());
    const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
    if (sum == 0) {
      ASSERT_EQ(std::ranges::count(quotas, 0u), std::ssize(quotas));
      continue;
    }
    for (size_t i = 0; i < weights.size(); ++i) {
      const uint64_t exact = uint64_t{total} * weights[i];
      ASSERT_GE(quotas[i], exact / sum) << "round " << round;
      ASSERT_LE(quotas[i], (exact + sum - 1) / sum) << "round " << round;
    }
    ASSERT_EQ(std::accumulate(quotas.begin(), quotas.end(), uint64_t{0}), total);
    ASSERT_EQ(quotas, testing::PlainQuotas(weights, total)) << "round " << round;
  }
}

TEST(Apportion, ServesTheLargestRemaindersAndOfEqualOnesTheFirst) {
  EXPECT_EQ(Apportion(Weights{1, 1, 1}, 5), (Weights{2, 2, 1}));
  EXPECT_EQ(Apportion(Weights{1, 2, 4}, 23), (Weights{3, 7, 13}));  // 3.29, 6.57, 13.14
  EXPECT_EQ(Apportion(Weights{0, 5, 0}, 7), (Weights{0, 7, 0}));
  EXPECT_EQ(Apportion(Weights{65535, 1}, 1021), (Weights{1021, 0}));
  EXPECT_EQ(Apportion(Weights{0, 0}, 7), (Weights{0, 0}));
  EXPECT_EQ(Apportion(Weights{3, 4}, 0), (Weights{0, 0}));
  EXPECT_EQ(Apportion(Weights{}, 7), Weights{});
}

TEST(Apportion, ServesAPoolOfTheLargestSize) {
  const Weights equal(65536, 655350);
  EXPECT_EQ(Apportion(equal, 65537), testing::PlainQuotas(equal, 65537));
  Weights mixed(65536);
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = i % 3 == 0 ? (1u << 20) - 1 : i % 7;
  EXPECT_EQ(Apportion(mixed, 16777213), testing::PlainQuotas(mixed, 16777213));
}

TEST(TakeTurns, AreTheDefinitions) {
  std::mt19937 random(2);
  for (int round = 0; round < 800; ++round) {
    const Weights quotas = Apportion(RandomWeights(random, 1 + round % 300),
                                     1 + random() % (round % 4 ? 3000 : 40000));
    const std::vector<uint16_t> turns = TakeTurns(quotas);
    ASSERT_EQ(turns, testing::PlainTurns(quotas)) << "round " << round;
    Weights counts(quotas.size());
    for (uint16_t i : turns) ++counts[i];
    ASSERT_EQ(counts, quotas) << "round " << round;
  }
}

TEST(TakeTurns, AreTheDefinitionsOfAllSmallQuotas) {
  for (uint32_t code = 0; code < 7 * 7 * 7 * 7; ++code) {
    const Weights quotas = {code % 7, code / 7 % 7, code / 49 % 7, code / 343};
    ASSERT_EQ(TakeTurns(quotas), testing::PlainTurns(quotas)) << code;
  }
}

TEST(TakeTurns, ByHand) {
  EXPECT_EQ(Letters(TakeTurns(Weights{2, 2, 2})), "abcabc");
  EXPECT_EQ(Letters(TakeTurns(Weights{2, 3, 2})), "abcabcb");
  EXPECT_EQ(Letters(TakeTurns(Weights{1, 2, 4})), "abccbcc");  // rounds: a 0, b 0 2, c 0 1 2 3
  EXPECT_EQ(Letters(TakeTurns(Weights{3, 0, 1})), "acaa");
  EXPECT_EQ(Letters(TakeTurns(Weights{0, 1})), "b");
  EXPECT_EQ(Letters(TakeTurns(Weights{0, 0})), "");
  EXPECT_EQ(Letters(TakeTurns(Weights{})), "");
}

// One with the largest quota has a turn in every round, so who had two in one would have both
// between two of his.
TEST(TakeTurns, GiveNobodyTwoInARound) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const Weights quotas = Apportion(RandomWeights(random, 100), 1 + random() % 5000);
    const auto most = std::ranges::max_element(quotas) - quotas.begin();
    std::vector<bool> had(quotas.size());
    for (uint16_t i : TakeTurns(quotas)) {
      if (i == most) {
        had.assign(quotas.size(), false);
      } else {
        ASSERT_FALSE(had[i]) << "round " << round;
        had[i] = true;
      }
    }
  }
}

// Of the first n turns, the floor or the ceiling of
// n·q/T, for everybody and every n.
void ExpectFairPrefixes(const Weights& quotas) {
  const std::vector<uint16_t> turns = SpreadTurns(quotas);
  const uint64_t total = std::accumulate(quotas.begin(), quotas.end(), uint64_t{0});
  ASSERT_EQ(turns.size(), total);
  Weights counts(quotas.size());
  // Between his turns somebody's part only grows, so he is behind most just before a turn of his,
  // and ahead most just after.
  for (uint64_t n = 1; n <= total; ++n) {
    const uint16_t i = turns[n - 1];
    ASSERT_LT(i, quotas.size());
    ASSERT_GE(counts[i], (n - 1) * quotas[i] / total) << "turn " << n << " of " << i;
    ++counts[i];
    ASSERT_LE(counts[i], (n * quotas[i] + total - 1) / total) << "turn " << n << " of " << i;
  }
  ASSERT_EQ(counts, quotas);
}

TEST(SpreadTurns, EveryPrefixIsFairToEverybody) {
  std::mt19937 random(4);
  for (int round = 0; round < 1000 && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(round);
    ExpectFairPrefixes(
        Apportion(RandomWeights(random, 1 + round % 200), random() % (round % 10 ? 3000 : 65537)));
  }
  for (uint32_t code = 0; code < 7 * 7 * 7 * 7 && !::testing::Test::HasFailure(); ++code) {
    ExpectFairPrefixes({code % 7, code / 7 % 7, code / 49 % 7, code / 343});
  }
  ExpectFairPrefixes(Weights(65536, 1));
  Weights one_large(1001, 1);
  one_large[500] = 1000;
  ExpectFairPrefixes(one_large);
}

TEST(SpreadTurns, ByHand) {
  EXPECT_EQ(Letters(SpreadTurns(Weights{1, 2})), "bab");
  EXPECT_EQ(Letters(SpreadTurns(Weights{1, 1, 1})), "abc");
  EXPECT_EQ(Letters(SpreadTurns(Weights{2, 2})), "abab");
  EXPECT_EQ(Letters(SpreadTurns(Weights{4, 1, 1, 1, 1})), "abacadae");
  EXPECT_EQ(Letters(SpreadTurns(Weights{1, 2, 5})), "cbcccabc");
  EXPECT_EQ(Letters(SpreadTurns(Weights{0, 3})), "bbb");
  EXPECT_EQ(Letters(SpreadTurns(Weights{0})), "");
  EXPECT_EQ(Letters(SpreadTurns(Weights{})), "");
}

}  // namespace
}  // namespace guideway
