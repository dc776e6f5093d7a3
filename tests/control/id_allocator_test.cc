#include "control/id_allocator.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

uint32_t IdOf(IdAllocator& ids, const std::string& name) { return ids.Acquire(name)->value; }

TEST(IdAllocator, NamesKeepTheirIds) {
  IdAllocator ids(10);
  const uint32_t a = IdOf(ids, "a");
  const uint32_t b = IdOf(ids, "b");
  EXPECT_NE(a, b);
  ids.Commit(1);
  EXPECT_EQ(IdOf(ids, "b"), b);
  EXPECT_EQ(IdOf(ids, "a"), a);
  ids.Commit(2);
  EXPECT_EQ(ids.in_use(), 2u);
}

TEST(IdAllocator, AnIdIsKeptByItself) {
  IdAllocator ids(10);
  const uint32_t a = IdOf(ids, "a");
  EXPECT_TRUE(ids.AcquireAgain(a).is_new) << "still the same round";
  ids.Commit(1);
  EXPECT_FALSE(ids.AcquireAgain(a).is_new);
  ids.Commit(2);
  EXPECT_EQ(ids.in_use(), 1u);
  EXPECT_EQ(IdOf(ids, "a"), a);
  ids.Abort();
  EXPECT_EQ(ids.in_use(), 1u) << "it was in use before";
}

TEST(IdAllocator, SaysWhichIdsAreNewToTheirName) {
  IdAllocator ids(10);
  EXPECT_TRUE(ids.Acquire("a")->is_new);
  EXPECT_TRUE(ids.Acquire("a")->is_new) << "still the same round";
  ids.Commit(1);
  EXPECT_FALSE(ids.Acquire("a")->is_new);
  ids.Commit(2);
  ids.Commit(3);  // without a: it rests
  EXPECT_FALSE(ids.Acquire("a")->is_new) << "its counts go on";
}

TEST(IdAllocator, AnIdIsGivenToAnotherOnlyAfterTheSweep) {
  IdAllocator ids(10);
  const uint32_t a = IdOf(ids, "a");
  ids.Commit(1);
  ids.Commit(2);  // the first without a
  ids.Reclaim(1);
  EXPECT_EQ(ids.resting(), 1u);
  EXPECT_NE(IdOf(ids, "b"), a);
  ids.Abort();
  ids.Reclaim(2);
  EXPECT_EQ(ids.resting(), 0u);
  const auto b = ids.Acquire("b");
  EXPECT_EQ(b->value, a);
  EXPECT_TRUE(b->is_new);
}

TEST(IdAllocator, ANameThatComesBackBeforeTheSweepHasItsId) {
  IdAllocator ids(10);
  const uint32_t a = IdOf(ids, "a");
  ids.Commit(1);
  ids.Commit(2);
  EXPECT_EQ(IdOf(ids, "a"), a);
  ids.Commit(3);
  ids.Reclaim(100);
  EXPECT_NE(IdOf(ids, "b"), a) << "a is in use again";
}

TEST(IdAllocator, AbortPutsEverythingBack) {
  IdAllocator ids(3);
  const uint32_t a = IdOf(ids, "a");
  const uint32_t b = IdOf(ids, "b");
  ids.Commit(1);
  IdOf(ids, "a");
  ids.Commit(2);  // b rests since version 2
  EXPECT_EQ(IdOf(ids, "b"), b);
  const uint32_t c = IdOf(ids, "c");
  ids.Abort();
  EXPECT_EQ(ids.in_use(), 1u);
  EXPECT_EQ(ids.resting(), 1u);
  ids.Reclaim(1);
  EXPECT_EQ(ids.resting(), 1u) << "b rests since 2, as before";
  EXPECT_EQ(IdOf(ids, "d"), c) << "was never in a Snapshot";
  EXPECT_EQ(IdOf(ids, "a"), a);
}

TEST(IdAllocator, WhatRestsAgainAfterAbortsRestsNoLonger) {
  IdAllocator ids(3);
  IdOf(ids, "a");
  IdOf(ids, "b");
  ids.Commit(1);
  IdOf(ids, "a");
  ids.Commit(2);  // b rests since version 2
  for (int i = 0; i < 2; ++i) {
    IdOf(ids, "b");
    ids.Abort();
    EXPECT_EQ(ids.resting(), 1u);
  }
  IdOf(ids, "a");
  ids.Commit(3);
  ids.Reclaim(2);
  EXPECT_EQ(ids.resting(), 0u);
}

TEST(IdAllocator, SaysSoWhenNoneIsLeft) {
  IdAllocator ids(1);
  IdOf(ids, "a");
  ids.Commit(1);
  const auto b = ids.Acquire("b");
  EXPECT_EQ(b.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(b.status().message().find("\"b\""), absl::string_view::npos) << b.status();
}

}  // namespace
}  // namespace guideway
