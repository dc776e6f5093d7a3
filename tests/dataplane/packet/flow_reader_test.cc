// A flow table that is read while its worker writes. Also under ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "dataplane/packet/flow_table.h"

namespace guideway {
namespace {

FlowHash Hash(uint32_t i) {
  FlowKey key = {};
  key.version = 4;
  std::memcpy(key.source, &i, 4);
  return FlowHasher(1).Hash(key);
}

// What connection `i` is like: every part of it follows from `i`, so that a mixture shows.
Flow Of(uint32_t i, Ticks touched) {
  Flow flow;
  flow.backend = i % 1000;
  flow.state = static_cast<FlowState>(i % 1000 % kFlowStates);
  flow.unconfirmed = i % 1000 % 3 == 0;
  flow.touched = touched;
  return flow;
}

TEST(FlowReader, AgreesWithAPlainModel) {
  FlowTable table(1 << 12, PageSize::kLazy);
  const FlowClock clock(100, FlowTimeouts());
  std::map<BackendId, int> model;
  for (uint32_t i = 0; i < 2000; ++i) {
    const std::optional<Flow> gone = table.Insert(Hash(i), Of(i, 100 - i % 50), clock);
    if (!gone.has_value()) continue;
    ++model[i % 1000];
    if (gone->backend != kNoBackend) --model[gone->backend];
  }
  // Some go again.
  for (size_t line = 0; line < table.lines(); line += 3) {
    table.SweepLine(
        line, [](const Flow& flow) { return flow.backend % 2 == 0; },
        [&](const Flow& flow) { --model[flow.backend]; });
  }
  std::erase_if(model, [](const auto& item) { return item.second == 0; });
  // In pieces of whatever size, each entry is there once.
  for (const size_t piece : {1ul, 3ul, 4ul, 1000ul, 1ul << 12}) {
    std::map<BackendId, int> read;
    for (size_t place = 0; place < table.capacity(); place += piece) {
      table.ReadPlaces(place, std::min(place + piece, table.capacity()), [&](const Flow& flow) {
        EXPECT_EQ(flow, Of(flow.backend, flow.touched));
        ++read[flow.backend];
      });
    }
    EXPECT_EQ(read, model) << "in pieces of " << piece;
  }
}

TEST(FlowReader, ReadsWholeEntriesWhileTheWorkerWrites) {
  constexpr uint32_t kConnections = 3000;
  FlowTable table(1 << 10, PageSize::kLazy);  // too small, so that entries move and go
  std::atomic<bool> stop = false;
  std::thread worker([&] {
    std::mt19937 random(1);
    size_t line = 0;
    for (Ticks now = 1; !stop.load(std::memory_order_relaxed); ++now) {
      const FlowClock clock(now, FlowTimeouts());
      for (int n = 0; n < 16; ++n) {
        const uint32_t i = random() % kConnections;
        if (auto entry = table.Find(Hash(i))) {
          entry.Update(Of(i, now));
        } else {
          table.Insert(Hash(i), Of(i, now), clock);
        }
      }
      table.SweepLine(
          line, [&](const Flow& flow) { return flow.backend % 7 != now % 7; }, [](const Flow&) {});
      line = (line + 1) % table.lines();
    }
  });
  uint64_t read = 0, found = 0;
  while (read < 300000 || found < 2000) {
    table.ReadPlaces(0, table.capacity(), [&](const Flow& flow) {
      ++read;
      ASSERT_EQ(flow, Of(flow.backend, flow.touched));
    });
    for (uint32_t i = 0; i < kConnections; ++i) {
      const std::optional<Flow> flow = table.Peek(Hash(i));
      if (!flow) continue;
      ++found;
      ASSERT_EQ(*flow, Of(i, flow->touched)) << "not of another connection";
    }
  }
  stop = true;
  worker.join();
}

}  // namespace
}  // namespace guideway
