#include "dataplane/packet/flow_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace guideway {
namespace {

constexpr FlowTimeouts kTimeouts = {};

FlowHash Hash(uint64_t i) {
  FlowKey key = {};
  key.version = 4;
  std::memcpy(key.source, &i, 4);
  return FlowHasher(1).Hash(key);
}

Flow Established(BackendId backend, Ticks touched, bool unconfirmed = false) {
  Flow flow;
  flow.backend = backend;
  flow.state = FlowState::kTcpEstablished;
  flow.unconfirmed = unconfirmed;
  flow.touched = touched;
  return flow;
}

TEST(FlowTable, KeepsWhatItIsGiven) {
  FlowTable table(1024, PageSize::kLazy);
  EXPECT_EQ(table.capacity(), 1024u);
  const FlowClock clock(100, kTimeouts);
  for (FlowState state : {FlowState::kTcpHandshake, FlowState::kTcpEstablished,
                          FlowState::kTcpClosing, FlowState::kUdp}) {
    const Flow flow{.backend = 0xfffffe, .state = state, .unconfirmed = true, .touched = ~0u};
    const FlowHash hash = Hash(static_cast<uint64_t>(state));
    EXPECT_FALSE(table.Find(hash));
    EXPECT_TRUE(table.Insert(hash, flow, clock).has_value());
    ASSERT_TRUE(table.Find(hash));
    EXPECT_EQ(table.Find(hash).flow(), flow);
  }
}

TEST(FlowTable, StoresNineThousandNineHundredAndNinetyNineOfTenThousandAtALoadOfSixTenths) {
  FlowTable table(1 << 16, PageSize::kLazy);
  const FlowClock clock(0, kTimeouts);
  const uint64_t flows = table.capacity() * 6 / 10;
  uint64_t stored = 0;
  for (uint64_t i = 0; i < flows; ++i)
    stored += table.Insert(Hash(i), Established(1, 0), clock).has_value();
  EXPECT_GE(stored, flows - flows / 10000);
  for (uint64_t i = 0; i < flows; ++i) stored -= static_cast<bool>(table.Find(Hash(i)));
  EXPECT_EQ(stored, 0u) << "every stored one is found";
}

// Against a plain map: what Find and Insert say, for a table that overflows and time that goes on.
TEST(FlowTable, AgreesWithAPlainModel) {
  std::mt19937_64 random(4);
  FlowTable table(256, PageSize::kLazy);
  std::map<uint64_t, Flow> model;
  Ticks now = ~0u - 1000;  // wraps on the way
  for (int step = 0; step < 200000; ++step) {
    if (random() % 8 == 0) ++now;
    const FlowClock clock(now, {.tcp_handshake_s = 2, .tcp_established_s = 20, .udp_s = 5});
    const uint64_t i = random() % 400;
    const auto known = model.find(i);
    if (auto entry = table.Find(Hash(i))) {
      ASSERT_NE(known, model.end());
      ASSERT_EQ(entry.flow(), known->second) << "step " << step;
      if (random() % 2 == 0) {
        known->second.touched = now;
        known->second.unconfirmed = false;
        entry.Update(known->second);
      }
      continue;
    }
    // Not there: never stored, or evicted since, which only unconfirmed and timed-out ones may be.
    if (known != model.end()) {
      EXPECT_TRUE(known->second.unconfirmed || known->second.IsTimedOut(clock)) << "step " << step;
      model.erase(known);
    }
    const Flow flow{.backend = static_cast<BackendId>(i),
                    .state = static_cast<FlowState>(random() % kFlowStates),
                    .unconfirmed = random() % 2 == 0,
                    .touched = now};
    const std::optional<Flow> gone = table.Insert(Hash(i), flow, clock);
    if (!gone.has_value()) continue;
    if (gone->backend != kNoBackend) {
      // Backend numbers name the connections here.
      ASSERT_TRUE(model.contains(gone->backend)) << "step " << step;
      EXPECT_EQ(model[gone->backend], *gone) << "step " << step;
      EXPECT_TRUE(gone->unconfirmed || gone->IsTimedOut(clock)) << "step " << step;
      model.erase(gone->backend);
    }
    model[i] = flow;
  }
  // The sweep meets exactly what the model holds.
  size_t swept = 0;
  for (size_t line = 0; line < table.lines(); ++line) {
    table.SweepLine(
        line, [](const Flow&) { return false; },
        [&](const Flow& flow) {
          ++swept;
          EXPECT_EQ(model[flow.backend], flow);
        });
  }
  EXPECT_EQ(swept, model.size());
  for (uint64_t i = 0; i < 400; ++i) EXPECT_FALSE(table.Find(Hash(i)));
}

// Nobody has to go while there is room two steps away: at first, and after the table was full and
// has been swept.
TEST(FlowTable, EvictsNobodyAtALoadOfSixTenths) {
  FlowTable table(1 << 14, PageSize::kLazy);
  const FlowClock clock(0, kTimeouts);
  uint64_t next = 0;
  for (int round = 0; round < 3; ++round) {
    const uint64_t first = next;
    for (; next < first + table.capacity() * 6 / 10; ++next) {
      const std::optional<Flow> gone = table.Insert(Hash(next), Established(1, 0, true), clock);
      ASSERT_EQ(gone, Flow{}) << "round " << round;
    }
    uint64_t evicted = 0;
    for (; next < first + 3 * table.capacity(); ++next) {
      const std::optional<Flow> gone = table.Insert(Hash(next), Established(1, 0, true), clock);
      ASSERT_TRUE(gone.has_value());
      evicted += gone->backend != kNoBackend;
    }
    EXPECT_GE(evicted, 2 * table.capacity());
    const auto keep_none = [](const Flow&) { return false; };
    for (size_t line = 0; line < table.lines(); ++line) {
      table.SweepLine(line, keep_none, [](const Flow&) {});
    }
  }
}

// Of connections that are all confirmed none goes, and what can be moved is moved, however full.
TEST(FlowTable, MovesNeighboursUpToTheLast) {
  FlowTable table(1 << 14, PageSize::kLazy);
  const FlowClock clock(0, kTimeouts);
  uint64_t stored = 0;
  for (uint64_t i = 0; i < table.capacity() * 11 / 10; ++i) {
    const std::optional<Flow> gone = table.Insert(Hash(i), Established(1, 0), clock);
    if (!gone.has_value()) continue;
    EXPECT_EQ(*gone, Flow{});
    ++stored;
  }
  EXPECT_GT(stored, table.capacity() * 98 / 100);
}

// Hardly anybody is turned away while half of the others have timed out, and nobody who has not is
// displaced.
TEST(FlowTable, MovesNeighboursToWhereOthersTimedOut) {
  FlowTable table(1 << 14, PageSize::kLazy);
  const FlowClock clock(0, kTimeouts), later(901 * kTicksPerSecond, kTimeouts);
  uint64_t stale = 0;
  uint64_t i = 0;
  for (; i < table.capacity() * 11 / 10; ++i) {
    const bool times_out = i % 2 == 0;
    const Ticks touched = times_out ? 0 : later.now;
    stale += times_out && table.Insert(Hash(i), Established(1, touched), clock).has_value();
    if (!times_out) table.Insert(Hash(i), Established(2, touched), clock);
  }
  uint64_t refused = 0;
  for (const uint64_t end = i + stale * 8 / 10; i < end; ++i) {
    const std::optional<Flow> gone = table.Insert(Hash(i), Established(2, later.now), later);
    refused += !gone.has_value();
    EXPECT_NE(gone.value_or(Flow{}).backend, 2u);
  }
  EXPECT_LT(refused, stale / 50);
}

// A place that somebody was moved from is read as free until it is given away (ReadPlaces).
TEST(FlowTable, APlaceThatWasLeftSaysNothing) {
  FlowTable table(1 << 12, PageSize::kLazy);
  const FlowClock clock(100, kTimeouts);
  int left = 0;
  for (uint64_t i = 0; i < table.capacity(); ++i) {
    const FlowTable::Entry place = table.FindPlace(Hash(i), clock);
    if (!place) continue;
    left += place.is_free() && place.flow().backend == kNoBackend;
    table.Put(place, Hash(i), Established(7, 100));
  }
  EXPECT_GT(left, 0);
}

TEST(FlowTable, AFloodDisplacesOnlyItsLike) {
  FlowTable table(1024, PageSize::kLazy);
  const FlowClock clock(50, kTimeouts);
  std::vector<uint64_t> confirmed;
  for (uint64_t i = 0; i < 600; ++i) {
    if (table.Insert(Hash(i), Established(1, 50), clock).has_value()) confirmed.push_back(i);
  }
  ASSERT_GT(confirmed.size(), 590u);
  Flow syn;
  syn.backend = 2;
  syn.touched = 50;
  for (uint64_t i = 1000000; i < 1100000; ++i) {
    table.Insert(Hash(i), syn, clock);
  }
  for (uint64_t i : confirmed) {
    ASSERT_TRUE(table.Find(Hash(i))) << i;
    EXPECT_EQ(table.Find(Hash(i)).flow().backend, 1u);
  }
}

TEST(FlowTable, FullOfConfirmedConnectionsStoresNoMore) {
  FlowTable table(8, PageSize::kLazy);
  const FlowClock clock(50, kTimeouts);
  uint64_t i = 0;
  for (; table.Insert(Hash(i), Established(1, 50), clock).has_value(); ++i) ASSERT_LT(i, 9u);
  EXPECT_EQ(i, 8u) << "two lines of four";
  EXPECT_FALSE(table.Insert(Hash(99), Established(1, 50), clock).has_value());
  // Time makes room.
  const FlowClock later(50 + 900 * kTicksPerSecond + 1, kTimeouts);
  EXPECT_EQ(table.Insert(Hash(99), Established(3, later.now), later), Established(1, 50));
}

TEST(FlowTable, RoundsUp) {
  EXPECT_EQ(FlowTable(0, PageSize::kLazy).capacity(), 8u);
  EXPECT_EQ(FlowTable(9, PageSize::kLazy).capacity(), 16u);
  EXPECT_EQ(FlowTable(1 << 20, PageSize::kLazy).capacity(), size_t{1} << 20);
  EXPECT_EQ(FlowTable((1 << 20) + 1, PageSize::kLazy).capacity(), size_t{1} << 21);
}

}  // namespace
}  // namespace guideway
