#include "maglev/lookup_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "maglev/flow_hash.h"
#include "tests/support/plain_maglev.h"

namespace guideway {
namespace {

using Member = LookupTable::Member;
constexpr Member kNoMember = LookupTable::kNoMember;

// Sorted by name.
std::vector<PoolMember> EqualPool(int n) {
  std::vector<PoolMember> pool;
  for (int i = 0; i < n; ++i) pool.push_back({absl::StrFormat("backend-%05d", i), 100});
  return pool;
}

// Who is up takes everything, who is down nothing.
std::vector<Share> Shares(const std::vector<bool>& up) {
  std::vector<Share> shares;
  for (bool u : up) shares.push_back(u ? kFullShare : kDown);
  return shares;
}

std::vector<uint32_t> SlotsOf(absl::Span<const Member> slots, size_t members) {
  std::vector<uint32_t> counts(members);
  for (Member m : slots) ++counts[m];
  return counts;
}

TEST(LookupTable, EqualWeightsGiveThePapersTable) {
  for (const auto& [n, size] :
       {std::pair{1, 2u}, {3, 7u}, {10, 1021u}, {100, 1021u}, {7, 7u}, {1000, 65537u}}) {
    const auto pool = EqualPool(n);
    const auto table = LookupTable::Build(pool, size, 7);
    ASSERT_TRUE(table.ok());
    EXPECT_TRUE(std::ranges::equal(table->homes(), testing::PlainMaglev(pool, size, 7)))
        << n << " backends, " << size << " slots";
  }
}

// Changes only on purpose: every balancer of a fleet must compute this very table.
TEST(LookupTable, Golden) {
  const auto table =
      LookupTable::Build({{{"a", 1}, {"b", 2}, {"c", 4}, {"zero", 0}}}, 23, 8190443025772104713u);
  ASSERT_TRUE(table.ok());
  std::string homes, without_c;
  for (Member m : table->homes()) homes += "abcz"[m];
  for (Member m : *table->Assign(Shares({true, true, false, true}))) without_c += "abcz"[m];
  EXPECT_EQ(homes, "bbbccacccbcbcbccccaccab");
  EXPECT_EQ(without_c, "bbbbbaabbbbbbbabbbaabab");
}

TEST(LookupTable, SharesAreExactByWeight) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const uint32_t size = std::array{1021u, 4093u, 65537u}[round % 3];
    std::vector<PoolMember> pool;
    uint64_t total = 0;
    for (uint32_t i = 0, n = 1 + random() % 200; i < n; ++i) {
      // Half the pools lean to extremes: 1 beside 65535.
      const uint32_t weight = round % 2 == 0 ? 1 + random() % 100 : (random() % 2 ? 65535 : 1);
      pool.push_back({absl::StrCat("b", i), weight});
      total += weight;
    }
    const auto table = LookupTable::Build(pool, size, round);
    ASSERT_TRUE(table.ok());
    const auto slots = SlotsOf(table->homes(), pool.size());
    for (size_t i = 0; i < pool.size(); ++i) {
      const uint64_t exact = uint64_t{size} * pool[i].weight;
      EXPECT_GE(slots[i], exact / total) << "round " << round;
      EXPECT_LE(slots[i], (exact + total - 1) / total) << "round " << round;
    }
  }
}

TEST(LookupTable, TheOrderOfThePoolDoesNotMatter) {
  std::mt19937 random(2);
  std::vector<PoolMember> pool;
  for (int i = 0; i < 50; ++i) pool.push_back({absl::StrCat("b", i), 1 + uint32_t(random() % 9)});
  const auto names = [](const LookupTable& table, const std::vector<PoolMember>& p,
                        const std::string& down) {
    std::vector<bool> up;
    for (const PoolMember& m : p) up.push_back(m.name != down);
    std::vector<std::string> result;
    for (Member m : *table.Assign(Shares(up))) result.push_back(p[m].name);
    return result;
  };
  const auto expected = names(*LookupTable::Build(pool, 1021, 3), pool, "b7");
  for (int i = 0; i < 10; ++i) {
    std::shuffle(pool.begin(), pool.end(), random);
    EXPECT_EQ(names(*LookupTable::Build(pool, 1021, 3), pool, "b7"), expected);
  }
}

// The promise that the two steps exist for: in any sequence of failures and returns, a slot moves
// only if its backend failed, or if it goes to one that came back.
TEST(LookupTable, NoSequenceMovesSlotsOfOthers) {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    const int n = 2 + random() % 40;
    const auto table = LookupTable::Build(EqualPool(n), 1021, round);
    ASSERT_TRUE(table.ok());
    std::vector<bool> up(n, true);
    std::vector<Member> before = *table->Assign(Shares(up));
    for (int step = 0; step < 60; ++step) {
      const std::vector<bool> was_up = up;
      for (int flips = 1 + random() % 3; flips > 0; --flips) {
        const int i = random() % n;
        up[i] = !up[i];
      }
      if (step == 59) up.assign(n, true);
      const std::vector<Member> after = *table->Assign(Shares(up));
      for (uint32_t slot = 0; slot < table->size(); ++slot) {
        if (after[slot] == kNoMember) {
          ASSERT_EQ(std::ranges::count(up, true), 0);
        } else {
          ASSERT_TRUE(up[after[slot]]);
          if (before[slot] == after[slot] || before[slot] == kNoMember) continue;
          const bool failed = !up[before[slot]];
          const bool returned = !was_up[after[slot]];
          ASSERT_TRUE(failed || returned)
              << "round " << round << " step " << step << " slot " << slot;
        }
      }
      before = after;
    }
    EXPECT_TRUE(std::ranges::equal(before, table->homes())) << "all back: the table as it was";
  }
}

TEST(LookupTable, StaysEvenWhenSomeAreDown) {
  const auto table = LookupTable::Build(EqualPool(1000), 65537, 11);
  ASSERT_TRUE(table.ok());
  for (const auto& [down, bound] : {std::pair{1, 1.06}, {10, 1.10}, {50, 1.17}}) {
    std::vector<bool> up(1000, true);
    for (int i = 0; i < down; ++i) up[i * 7] = false;
    const auto slots = SlotsOf(*table->Assign(Shares(up)), 1000);
    const double fair = 65537.0 / (1000 - down);
    EXPECT_LE(*std::ranges::max_element(slots), fair * bound) << down << " down";
  }
}

// Against the definition, for tables in which the walk of most slots ends without an answer.
TEST(LookupTable, LooksUpwardWhenTheWalkFindsNobody) {
  const auto pool = std::vector<PoolMember>{{"heavy", 65535}, {"light-1", 200}, {"light-2", 200}};
  const auto three = LookupTable::Build(pool, 1021, 5);
  const auto assigned = *three->Assign(Shares({false, true, true}));
  int walked_upward = 0;
  for (uint32_t slot = 0; slot < 1021; ++slot) {
    uint32_t expected = 1021;
    for (uint32_t attempt = 0; attempt < 64 && expected == 1021; ++attempt) {
      const uint32_t step[2] = {slot, attempt};
      const auto next = static_cast<uint32_t>(
          (static_cast<unsigned __int128>(XXH3_64bits_withSeed(step, sizeof(step), 5)) * 1021) >>
          64);
      if (three->homes()[next] != 0) expected = next;
    }
    if (three->homes()[slot] != 0) expected = slot;
    if (expected == 1021) {
      ++walked_upward;
      for (expected = slot; three->homes()[expected] == 0;) expected = (expected + 1) % 1021;
    }
    ASSERT_EQ(assigned[slot], three->homes()[expected]) << slot;
  }
  EXPECT_GT(walked_upward, 100);
}

TEST(Prime, IsFound) {
  for (uint32_t n : {2u, 3u, 7u, 1021u, 65537u, 655373u, LookupTable::kMaxSize}) {
    EXPECT_TRUE(IsPrime(n)) << n;
    EXPECT_EQ(NextPrime(n), n);
  }
  for (uint32_t n : {0u, 1u, 4u, 9u, 1022u, 65536u, 16777215u}) EXPECT_FALSE(IsPrime(n)) << n;
  EXPECT_EQ(NextPrime(0), 2u);
  EXPECT_EQ(NextPrime(65538), 65539u);
  EXPECT_EQ(NextPrime(6553600), 6553621u);
}

TEST(LookupTable, OnlyTheLastSlotsAreLeft) {
  // One of 500 is up, so nearly all walks end without an answer and look upward.
  const auto table = LookupTable::Build(EqualPool(500), 1021, 1);
  ASSERT_TRUE(table.ok());
  std::vector<bool> up(500, false);
  up[123] = true;
  EXPECT_EQ(std::ranges::count(*table->Assign(Shares(up)), 123), 1021);
  up[123] = false;
  EXPECT_EQ(std::ranges::count(*table->Assign(Shares(up)), kNoMember), 1021);
}

TEST(LookupTable, WeightZeroTakesNoSlots) {
  const auto table = LookupTable::Build({{{"a", 0}, {"b", 5}}}, 1021, 1);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(std::ranges::count(table->homes(), 1), 1021);
  EXPECT_EQ(std::ranges::count(*table->Assign(Shares({true, false})), kNoMember), 1021)
      << "a takes none even when it is the only one up";
  const auto nobody = LookupTable::Build({PoolMember{"a", 0}}, 1021, 1);
  EXPECT_EQ(std::ranges::count(nobody->homes(), kNoMember), 1021);
  const auto empty = LookupTable::Build({}, 1021, 1);
  EXPECT_EQ(std::ranges::count(*empty->Assign({}), kNoMember), 1021);
}

TEST(LookupTable, RefusesWithTheRuleThatIsBroken) {
  const auto error = [](std::vector<PoolMember> pool, uint32_t size) {
    return std::string(LookupTable::Build(pool, size, 1).status().message());
  };
  EXPECT_EQ(error({{"a", 1}}, 1024), "table size 1024 is not a prime up to 16777213");
  EXPECT_EQ(error({{"a", 1}}, 0), "table size 0 is not a prime up to 16777213");
  EXPECT_EQ(error({{"a", 1}}, 16777259), "table size 16777259 is not a prime up to 16777213");
  EXPECT_EQ(error({{"a", 1}, {"b", 1}, {"c", 1}}, 2), "table size 2 is less than the 3 backends");
  EXPECT_EQ(error({{"a", 1}, {"a", 2}}, 7), "two backends are named a");
  EXPECT_EQ(error({{"a", 65536}}, 7), "weight 65536 of a is over 65535");
  EXPECT_EQ(error(EqualPool(65536), 65537), "65536 backends are more than the 65535 of a pool");
}

TEST(FlowHash, DependsOnEveryFieldAndSpreads) {
  FlowKey key = {};
  key.version = 4;
  key.protocol = 6;
  key.source_port = 1;
  std::vector<FlowKey> keys(7, key);
  keys[1].source[3] = 1;
  keys[2].destination[0] = 1;
  keys[3].source_port = 2;
  keys[4].destination_port = 9;
  keys[5].protocol = 17;
  keys[6].version = 6;
  for (size_t a = 0; a < keys.size(); ++a) {
    EXPECT_FALSE(HashFlow(keys[a], 1) == HashFlow(keys[a], 2)) << "the seed counts";
    for (size_t b = 0; b < a; ++b) EXPECT_FALSE(HashFlow(keys[a], 1) == HashFlow(keys[b], 1));
  }
  std::vector<int> slots(13);
  for (int i = 0; i < 13000; ++i) {
    std::memcpy(key.source, &i, 4);
    ++slots[SlotOf(HashFlow(key, 5).slot, 13)];
  }
  for (int n : slots) EXPECT_NEAR(n, 1000, 150);
}

}  // namespace
}  // namespace guideway
