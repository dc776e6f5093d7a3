// New connections per second of a service: all workers together, and those that open alone.
#include <gtest/gtest.h>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

std::shared_ptr<const Snapshot> Limited(uint32_t per_second) {
  std::vector<TestService> services = Services();
  for (TestService& service : services) service.new_flows_per_second = per_second;
  return MakeSnapshot(services, {.timeouts = {.tcp_handshake_s = 10, .udp_s = 10}});
}

Bytes Syn(uint16_t port) { return Framed(Ipv4{}.With(Tcp{.source_port = port, .flags = kSyn})); }
Bytes Ack(uint16_t port) { return Framed(Ipv4{}.With(Tcp{.source_port = port}, {1})); }
Bytes Datagram(uint16_t port) { return Framed(Ipv4{}.With(Udp{.source_port = port}, {1})); }
Bytes Gre4(const char* client) {
  return Framed(Ipv4{.source = client, .destination = "198.51.100.77", .protocol = 47}.Around({}));
}

TEST(Limits, SoManyAtOnceAndThenByTime) {
  for (const uint32_t limit : {1u, 2u, 7u, 100u}) {
    Path path(Limited(limit));
    uint16_t port = 1;
    const auto open = [&](int tries) {
      uint32_t opened = 0;
      for (int n = 0; n < tries; ++n) {
        const Outcome outcome = path.Send(Syn(port++));
        opened += outcome.text() == "forward" ? 1 : 0;
        if (outcome.text() == "forward") {
          EXPECT_EQ(outcome.flow(), "new");
        } else {
          EXPECT_EQ(outcome.text(), "drop rate_limited");
          EXPECT_EQ(outcome.flow(), "none");
          EXPECT_EQ(outcome.service, "web");
        }
      }
      return opened;
    };
    EXPECT_EQ(open(200), limit);
    EXPECT_EQ(path.counters().flow_count(), limit) << "those that were refused left nothing";
    EXPECT_EQ(open(5), 0u);
    path.now += kTicksPerSecond;
    EXPECT_EQ(open(200), limit) << "a second later as many";
    path.now += 100 * kTicksPerSecond;
    EXPECT_EQ(open(200), limit) << "rest does not add up beyond a second";
    EXPECT_EQ(path.counters().backend_counts(0).new_flows, 3 * limit);
  }
}

TEST(Limits, RefillSteadily) {
  Path path(Limited(100));
  uint16_t port = 1;
  for (int n = 0; n < 100; ++n) path.Send(Syn(port++));
  int opened = 0;
  for (int ms = 0; ms < 1000; ++ms) {
    path.nanoseconds += 1000000;
    opened += path.Send(Syn(port++)).text() == "forward" ? 1 : 0;
  }
  EXPECT_EQ(opened, 100);
}

TEST(Limits, OnlyWhatOpensAConnection) {
  Path path(Limited(1));
  EXPECT_EQ(path.Send(Syn(1)).flow(), "new");
  EXPECT_EQ(path.Send(Syn(2)).text(), "drop rate_limited");
  EXPECT_EQ(path.Send(Syn(1)).flow(), "hit") << "the same again";
  EXPECT_EQ(path.Send(Ack(1)).flow(), "hit") << "established";
  EXPECT_EQ(path.Send(Ack(3)).flow(), "new") << "in the middle of one";
  EXPECT_EQ(path.Send(Ack(3)).flow(), "hit");
  EXPECT_EQ(path.Send(Framed(Ipv4{}.With(Tcp{.source_port = 4, .flags = kSyn | kAck}))).text(),
            "forward");
  EXPECT_EQ(path.Send(Datagram(1)).flow(), "new") << "another service has a limit of its own";
  EXPECT_EQ(path.Send(Datagram(2)).text(), "drop rate_limited");
  EXPECT_EQ(path.Send(Datagram(1)).flow(), "hit");
  EXPECT_EQ(path.Send(Gre4(kClient4)).flow(), "new");
  EXPECT_EQ(path.Send(Gre4("203.0.113.8")).text(), "drop rate_limited");
  EXPECT_EQ(path.Send(Gre4(kClient4)).flow(), "hit");
  EXPECT_EQ(path.Send(Framed(Ipv4{}.With(Icmp{}))).text(), "reply");
}

// A connection that timed out, or was closed, opens anew and is counted.
TEST(Limits, AConnectionThatIsOverIsANewOne) {
  Path path(Limited(1));
  EXPECT_EQ(path.Send(Datagram(1)).flow(), "new");
  path.now += 10 * kTicksPerSecond + 1;
  EXPECT_EQ(path.Send(Datagram(2)).flow(), "new");
  EXPECT_EQ(path.Send(Datagram(1)).text(), "drop rate_limited");

  EXPECT_EQ(path.Send(Syn(1)).flow(), "new");
  path.Send(Framed(Ipv4{}.With(Tcp{.source_port = 1, .flags = kRst})));
  EXPECT_EQ(path.Send(Syn(1)).text(), "drop rate_limited");
  path.now += kTicksPerSecond;
  EXPECT_EQ(path.Send(Syn(1)).flow(), "new");
}

TEST(Limits, NoneIsNone) {
  Path path(Limited(0));
  for (uint16_t port = 1; port <= 500; ++port) {
    EXPECT_EQ(path.Send(Syn(port)).text(), "forward");
  }
}

TEST(Limits, HoldForAllWorkersTogether) {
  const auto snapshot = Limited(10);
  SharedState shared(2, 1024, PageSize::kLazy);
  Pipeline first(shared, 0), second(shared, 1);
  auto burst = std::make_unique<Burst>();
  int forwarded = 0;
  for (uint16_t port = 1; port <= 40; ++port) {
    Bytes buffer = Joined(Bytes(Frame::kHeadroom), Syn(port));
    burst->size = 1;
    burst->packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                               .length = static_cast<uint32_t>(buffer.size() - Frame::kHeadroom)};
    Pipeline& pipeline = port % 3 == 0 ? first : second;
    pipeline.Process(*snapshot, kSecond * 100, *burst);
    pipeline.Account(*burst);
    forwarded += burst->packets[0].verdict == Verdict::kForward ? 1 : 0;
  }
  EXPECT_EQ(forwarded, 10);
  EXPECT_EQ(shared.counters(0).packet_counts().of(Verdict::kForward), 3u);
  EXPECT_EQ(shared.counters(1).packet_counts().of(Verdict::kForward), 7u);
}

// --- answers of the balancer itself: each worker has its own limit

TEST(Limits, AnswersAreEachWorkersOwn) {
  const auto snapshot = MakeSnapshot(Services(), {.replies_per_second = 5});
  SharedState shared(2, 1024, PageSize::kLazy);
  auto burst = std::make_unique<Burst>();
  for (const size_t worker : {0, 1}) {
    Pipeline pipeline(shared, worker);
    int replies = 0;
    for (int n = 0; n < 20; ++n) {
      Bytes buffer = Joined(Bytes(Frame::kHeadroom), Framed(Ipv4{}.With(Icmp{})));
      burst->size = 1;
      burst->packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                                 .length = static_cast<uint32_t>(buffer.size() - Frame::kHeadroom)};
      pipeline.Process(*snapshot, kSecond * 100, *burst);
      replies += burst->packets[0].verdict == Verdict::kReply ? 1 : 0;
    }
    EXPECT_EQ(replies, 5);
  }
}

}  // namespace
}  // namespace guideway
