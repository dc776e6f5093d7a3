#include "maglev/table_digest.h"

#include <gtest/gtest.h>

#include <vector>

namespace guideway {
namespace {

constexpr LookupTable::Member kNobody = LookupTable::kNoMember;

uint64_t Of(std::vector<absl::string_view> names, std::vector<LookupTable::Member> slots) {
  return PoolDigest(names, slots);
}

TEST(TableDigest, IsOfNamesInSlots) {
  const uint64_t digest = Of({"a", "b"}, {0, 1, 1});
  EXPECT_EQ(Of({"b", "a"}, {1, 0, 0}), digest) << "numbers of members do not matter";
  EXPECT_EQ(Of({"a", "b", "idle"}, {0, 1, 1}), digest) << "who has no slot does not matter";
  EXPECT_NE(Of({"a", "c"}, {0, 1, 1}), digest);
  EXPECT_NE(Of({"a", "b"}, {1, 0, 1}), digest);
  EXPECT_NE(Of({"a", "b"}, {0, 1}), digest);
  EXPECT_NE(Of({"a", "b"}, {0, 1, kNobody}), digest);
}

// The same on every machine and in every version: what is compared is of different processes.
TEST(TableDigest, NeverChanges) {
  std::vector<LookupTable::Member> slots;
  for (uint32_t i = 0; i < 1009; ++i) slots.push_back(i * i % 3 == 0 ? kNobody : i % 2);
  const uint64_t pool = Of({"web-1", "web-2"}, slots);
  EXPECT_EQ(pool, 3928981303616035586u);
  EXPECT_EQ(TableDigest({{"", pool}}), 1472129279866113u);
}

TEST(TableDigest, IsExactAsADouble) {
  for (uint64_t pool : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    const uint64_t digest = TableDigest({{"", pool}});
    EXPECT_LT(digest, uint64_t{1} << 52);
    EXPECT_EQ(static_cast<uint64_t>(static_cast<double>(digest)), digest);
  }
}

TEST(TableDigest, KnowsRegionsNotTheirOrder) {
  const uint64_t digest = TableDigest({{"east", 1}, {"west", 2}});
  EXPECT_EQ(TableDigest({{"west", 2}, {"east", 1}}), digest);
  EXPECT_NE(TableDigest({{"west", 1}, {"east", 2}}), digest);
  EXPECT_NE(TableDigest({{"east", 1}, {"west", 1}}), digest);
}

}  // namespace
}  // namespace guideway
