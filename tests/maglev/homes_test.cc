#include "maglev/homes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_format.h"
#include "maglev/lookup_table.h"
#include "maglev/turns.h"
#include "tests/support/plain_maglev.h"

namespace guideway {
namespace {

std::vector<Permutation> RandomPermutations(std::mt19937& random, size_t n, uint32_t size) {
  std::vector<Permutation> result;
  for (size_t i = 0; i < n; ++i) {
    result.push_back(
        {static_cast<uint32_t>(random() % size), 1 + static_cast<uint32_t>(random() % (size - 1))});
  }
  return result;
}

// Both ways against the plain loop. The slots that were found by rank must be the last ones, in the
// order they were taken: Assign goes through a home's slots in that order.
void ExpectPlain(const std::vector<Permutation>& permutations, const std::vector<uint16_t>& turns) {
  const testing::PlainHomesResult plain = testing::PlainHomes(permutations, turns);
  const auto root = static_cast<size_t>(std::sqrt(turns.size()));
  for (const Homes& homes :
       {TakeHomes(permutations, turns), internal::TakeHomesPortably(permutations, turns)}) {
    ASSERT_EQ(homes.owners, plain.owners);
    ASSERT_LE(homes.ranked.size(), plain.taken.size());
    ASSERT_GE(homes.ranked.size(), root) << "fewer are ranked than the header says";
    ASSERT_TRUE(std::equal(homes.ranked.rbegin(), homes.ranked.rend(), plain.taken.rbegin()));
  }
}

// Turns as the lookup table makes them, of a random pool.
std::vector<uint16_t> RandomTurns(std::mt19937& random, size_t n, uint32_t size) {
  std::vector<uint32_t> weights(n);
  const uint32_t kind = random() % 4;
  for (uint32_t& w : weights) {
    w = kind == 0   ? 1
        : kind == 1 ? 1 + random() % 10
        : kind == 2 ? 1 + random() % 65535
                    : (random() % 2 ? 65535 : 1);
  }
  return TakeTurns(Apportion(weights, size));
}

TEST(Homes, AreThePlainLoopsForAnySize) {
  std::mt19937 random(1);
  // Up to 512 slots one probe at a time, above it eight of up to 64 turns; words of 32 bits.
  std::vector<uint32_t> sizes = {2,    3,    5,    7,     29,    31,    37,    61,    67,   127,
                                 131,  499,  503,  509,   521,   523,   541,   1021,  1031, 2039,
                                 4093, 4099, 8191, 16381, 32749, 32771, 65521, 65537, 69997};
  for (uint32_t size : sizes) {
    const int rounds = size < 1000 ? 60 : size < 10000 ? 12 : 3;
    for (int round = 0; round < rounds && !::testing::Test::HasFatalFailure(); ++round) {
      SCOPED_TRACE(absl::StrFormat("size %d round %d", size, round));
      const size_t n = 1 + random() % std::min(size, round % 3 == 0 ? size : 40);
      ExpectPlain(RandomPermutations(random, n, size), RandomTurns(random, n, size));
    }
  }
}

TEST(Homes, AreThePlainLoopsForPoolsAsLargeAsTheTable) {
  std::mt19937 random(2);
  for (uint32_t size : {2u, 7u, 509u, 521u, 1021u, 4093u, 65521u}) {
    SCOPED_TRACE(size);
    const std::vector<uint32_t> one_each(size, 1);
    ExpectPlain(RandomPermutations(random, size, size), TakeTurns(one_each));
    const std::vector<uint32_t> but_one(size - 1, 1);
    ExpectPlain(RandomPermutations(random, size - 1, size), TakeTurns(Apportion(but_one, size)));
  }
}

// Everybody wants the same slots in the same order, so that the turns of a batch collide all the
// time; skips at both ends, where the sums of a step wrap around.
TEST(Homes, AreThePlainLoopsWhenAllWalksCollide) {
  std::mt19937 random(3);
  for (uint32_t size : {31u, 521u, 1021u, 4093u}) {
    for (uint32_t skip : {1u, 2u, size / 2, size / 2 + 1, size - 2, size - 1}) {
      for (uint32_t offset : {0u, size / 2, size - 1}) {
        SCOPED_TRACE(absl::StrFormat("size %d skip %d offset %d", size, skip, offset));
        const size_t n = 1 + random() % 100 % size;
        ExpectPlain(std::vector<Permutation>(n, {offset, skip}), RandomTurns(random, n, size));
      }
    }
  }
}

// One alone walks his whole permutation: the slots come in its order.
TEST(Homes, OfOneAloneAreHisWalk) {
  const std::vector<Permutation> alone = {{5, 300}};
  for (uint32_t size : {509u, 1021u}) {
    const Homes homes = TakeHomes(alone, std::vector<uint16_t>(size, 0));
    EXPECT_EQ(std::ranges::count(homes.owners, 0), size);
    ExpectPlain(alone, std::vector<uint16_t>(size, 0));
  }
}

TEST(Homes, AreThePapersForEqualWeights) {
  for (const auto& [n, size] : {std::pair{1, 2u},
                                {2, 2u},
                                {3, 7u},
                                {10, 1021u},
                                {1021, 1021u},
                                {100, 4093u},
                                {1000, 65537u},
                                {30000, 65537u}}) {
    std::vector<PoolMember> pool;
    std::vector<Permutation> permutations;
    for (int i = 0; i < n; ++i) {
      pool.push_back({absl::StrFormat("backend-%05d", i), 100});
      permutations.push_back(testing::PermutationOf(pool.back().name, size, 7));
    }
    const std::vector<uint16_t> turns = TakeTurns(Apportion(std::vector<uint32_t>(n, 100), size));
    const std::vector<int32_t> plain = testing::PlainMaglev(pool, size, 7);
    EXPECT_TRUE(std::ranges::equal(TakeHomes(permutations, turns).owners, plain)) << n;
    EXPECT_TRUE(std::ranges::equal(internal::TakeHomesPortably(permutations, turns).owners, plain))
        << n;
  }
}

// The larger, the fewer bits the sums and fractions have to spare.
TEST(Homes, AreThePlainLoopsForLargeTables) {
  std::mt19937 random(4);
  const uint32_t size = 4194301;
  const std::vector<uint16_t> turns = TakeTurns(Apportion(std::vector<uint32_t>{3, 2}, size));
  const std::vector<Permutation> permutations = {{size - 1, size - 1}, {12345, size / 3}};
  const testing::PlainHomesResult plain = testing::PlainHomes(permutations, turns);
  EXPECT_TRUE(TakeHomes(permutations, turns).owners == plain.owners);
}

}  // namespace
}  // namespace guideway
