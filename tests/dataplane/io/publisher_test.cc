#include "dataplane/io/publisher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace guideway {
namespace {

std::shared_ptr<const Snapshot> Version(uint64_t version) {
  return std::make_shared<const Snapshot>(SnapshotParts{.version = version});
}

TEST(Publisher, NothingIsLoadedBeforeTheFirstPublish) {
  Publisher publisher(1);
  EXPECT_EQ(publisher.reader(0).Load(), nullptr);
  publisher.Publish(Version(1));
  EXPECT_EQ(publisher.reader(0).Load()->version(), 1u);
}

TEST(Publisher, AnOldSnapshotLivesUntilTheReaderIsQuiescent) {
  Publisher publisher(1);
  Publisher::Reader reader = publisher.reader(0);
  auto first = Version(1);
  const std::weak_ptr<const Snapshot> watch = first;
  publisher.Publish(std::move(first));
  reader.Online();
  const Snapshot* loaded = reader.Load();
  publisher.Publish(Version(2));
  EXPECT_EQ(publisher.Reclaim(), 1u);
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(loaded->version(), 1u);

  reader.Quiescent();
  EXPECT_EQ(publisher.Reclaim(), 0u);
  EXPECT_TRUE(watch.expired());
  reader.Offline();
}

TEST(Publisher, AReaderThatIsOfflineHoldsNothing) {
  Publisher publisher(2);
  publisher.Publish(Version(1));
  publisher.Publish(Version(2));
  EXPECT_EQ(publisher.Reclaim(), 0u);
  // Online only now: it can not have the old one.
  publisher.reader(0).Online();
  EXPECT_EQ(publisher.Reclaim(), 0u);
  publisher.reader(0).Offline();
}

TEST(Publisher, TheSlowestReaderDecides) {
  Publisher publisher(2);
  publisher.Publish(Version(1));
  publisher.reader(0).Online();
  publisher.reader(1).Online();
  publisher.Publish(Version(2));
  publisher.reader(0).Quiescent();
  EXPECT_EQ(publisher.Reclaim(), 1u);
  publisher.Publish(Version(3));
  publisher.reader(1).Quiescent();
  EXPECT_EQ(publisher.Reclaim(), 1u) << "reader 0 may have loaded version 2";
  publisher.reader(0).Quiescent();
  EXPECT_EQ(publisher.Reclaim(), 0u);
  publisher.reader(0).Offline();
  publisher.reader(1).Offline();
}

// Readers read what they have loaded, over and over, asleep now and then, while Snapshots come and
// go. A Snapshot released too early is found by the sanitizers, and by its version.
TEST(Publisher, Threads) {
  constexpr uint32_t kReaders = 3;
  constexpr uint64_t kVersions = 20000;
  Publisher publisher(kReaders);
  publisher.Publish(Version(1));
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kReaders; ++i) {
    threads.emplace_back([&, i] {
      Publisher::Reader reader = publisher.reader(i);
      std::minstd_rand random(i + 1);
      uint64_t last = 0;
      reader.Online();
      while (!stop.load(std::memory_order_relaxed)) {
        const Snapshot* snapshot = reader.Load();
        for (int n = 0; n < 50; ++n) {
          EXPECT_GE(snapshot->version(), last);
          last = snapshot->version();
        }
        reader.Quiescent();
        if (random() % 1000 == 0) {
          reader.Offline();
          std::this_thread::sleep_for(std::chrono::microseconds(20));
          reader.Online();
        }
      }
      reader.Offline();
    });
  }
  std::weak_ptr<const Snapshot> watch;
  for (uint64_t version = 2; version <= kVersions; ++version) {
    auto next = Version(version);
    if (version == kVersions / 2) watch = next;
    publisher.Publish(std::move(next));
    if (version % 64 == 0) std::this_thread::yield();
  }
  // All readers go on: every old Snapshot comes free without anybody waiting.
  while (publisher.Reclaim() > 0) std::this_thread::yield();
  EXPECT_TRUE(watch.expired());
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace guideway
