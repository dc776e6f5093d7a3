// A worker's thread and the control thread on one Pipeline, with nothing of DPDK between them but
// QSBR: what ThreadSanitizer can watch. (The drivers are not instrumented, so a test with devices
// would have it see races where the driver's rings are the order.)
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "dataplane/io/publisher.h"
#include "dataplane/packet/pipeline.h"
#include "tests/support/packet_builder.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names

TEST(PipelineThreads, SnapshotsAndCountersCrossWithoutARace) {
  constexpr uint64_t kSnapshots = 200;
  constexpr Nanoseconds kTick = kSecond / kTicksPerSecond;
  Publisher publisher(1);
  SharedState shared(1, 1024, PageSize::kLazy);
  const WorkerCounters& counters = shared.counters(0);
  Pipeline pipeline(shared, 0);
  const auto snapshot = [](uint64_t version) {
    return MakeSnapshot(
        {{.backends = {{"a", "10.0.0.1"},
                       {.name = "b",
                        .address = "10.0.0.2",
                        .state = version % 2 ? BackendState::kUp : BackendState::kDown}}}},
        {.version = version});
  };
  const auto publish = [&](uint64_t version) {
    auto next = snapshot(version);
    shared.Prepare(*next);
    publisher.Publish(std::move(next));
  };
  publish(1);

  std::atomic<bool> stop = false;
  std::thread worker([&] {
    Publisher::Reader reader = publisher.reader(0);
    reader.Online();
    Burst burst;
    std::vector<Bytes> buffers(Burst::kSize);
    for (uint16_t port = 0; !stop; ++port) {
      burst.size = Burst::kSize;
      for (uint32_t i = 0; i < burst.size; ++i) {
        const Bytes frame =
            Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port, .flags = 2}.Around({})));
        buffers[i].assign(Frame::kHeadroom, 0);
        buffers[i].insert(buffers[i].end(), frame.begin(), frame.end());
        burst.packets[i].frame = {.data = buffers[i].data() + Frame::kHeadroom,
                                  .length = static_cast<uint32_t>(frame.size())};
      }
      pipeline.Process(*reader.Load(), port * kTick, burst);
      pipeline.Account(burst);
      pipeline.Sweep(*reader.Load(), port * kTick, pipeline.flows().lines() / 4);
      reader.Quiescent();
    }
    reader.Offline();
  });

  uint64_t last = 0, last_of_service = 0;
  for (uint64_t version = 2; version <= kSnapshots; ++version) {
    publish(version);
    const uint64_t of_service = shared.service_counts(0).packets;
    EXPECT_GE(of_service, last_of_service);
    last_of_service = of_service;
    const uint64_t received = counters.packet_counts().received;
    EXPECT_GE(received, last);
    last = received;
    EXPECT_LE(counters.flow_count(), pipeline.flows().capacity());
    EXPECT_LE(pipeline.swept_version(), version);
  }
  while (pipeline.swept_version() < kSnapshots) std::this_thread::yield();
  stop = true;
  worker.join();

  EXPECT_EQ(publisher.Reclaim(), 0u);
  EXPECT_TRUE(counters.packet_counts().AddUp());
  EXPECT_EQ(shared.service_counts(0).packets, counters.packet_counts().received);
  uint64_t active = 0;
  for (BackendId id : {0, 1}) active += counters.backend_counts(id).active_flows;
  EXPECT_EQ(active, counters.flow_count());
}

// What least_connections reads of the other workers while they write it.
TEST(PipelineThreads, WorkersReadEachOthersConnections) {
  const auto snapshot = MakeSnapshot({{.backends = {{"a", "10.0.0.1"}, {"b", "10.0.0.2"}},
                                       .scheduler = Scheduler::kLeastConnections}});
  SharedState shared(2, 1024, PageSize::kLazy);
  Pipeline pipelines[2] = {{shared, 0}, {shared, 1}};
  const auto run = [&](int worker) {
    Burst burst;
    for (uint16_t port = 1; port <= 300; ++port) {
      Bytes buffer(Frame::kHeadroom, 0);
      const Bytes frame =
          Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port, .flags = 2}.Around({})));
      buffer.insert(buffer.end(), frame.begin(), frame.end());
      burst.size = 1;
      burst.packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                                .length = static_cast<uint32_t>(frame.size())};
      pipelines[worker].Process(*snapshot, 0, burst);
      pipelines[worker].Account(burst);
    }
  };
  std::thread other([&] { run(1); });
  run(0);
  other.join();
  uint64_t flows[2] = {};
  for (BackendId id : {0, 1}) flows[id] = shared.LiveConnections(id);
  EXPECT_EQ(flows[0] + flows[1], 600u);
  EXPECT_NEAR(static_cast<double>(flows[0]), 300, 30);
}

}  // namespace
}  // namespace guideway
