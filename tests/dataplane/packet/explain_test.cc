// What explain says of a packet that meets the tables of a running dataplane. Offline explain is
// tested as people call it, in tests/tools/replay_test.cc.
#include "dataplane/packet/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/packet_path.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using namespace guideway::testing;  // NOLINT: as the other tests of the packet path

const std::vector<std::string> kInterfaces = {"uplink", "", "", "", "", "", "", "inside"};
constexpr char kSyn[] = "tcp 203.0.113.7:40000 > 198.51.100.10:80 syn";
constexpr char kAck[] = "tcp 203.0.113.7:40000 > 198.51.100.10:80";

std::vector<TestService> ThreeServices(BackendState first = BackendState::kUp) {
  return {{.backends = {{"web-1", "10.0.0.11", first}, {"web-2", "10.0.0.12"}},
           .new_flows_per_second = 1},
          {.name = "dns",
           .vips = {"198.51.100.53", "2001:db8:100::53"},
           .protocol = Protocol::kUdp,
           .ports = {{53, 53}},
           .backends = {{"dns-1", "10.0.0.53"}, {"dns-2", "10.0.0.54"}}},
          {.name = "turns",
           .vips = {"198.51.100.99"},
           .backends = {{"t-1", "10.0.0.91"}, {"t-2", "10.0.0.92"}},
           .scheduler = Scheduler::kRoundRobin}};
}

Flow FlowOf(BackendId backend, FlowState state, bool unconfirmed, Ticks touched) {
  Flow flow;
  flow.backend = backend & 0xffffff;
  flow.state = state;
  flow.unconfirmed = unconfirmed;
  flow.touched = touched;
  return flow;
}

class ExplainTest : public ::testing::Test {
 protected:
  explicit ExplainTest() : shared_(2, 64, PageSize::kLazy) {}

  Explanation Live(const std::string& packet) {
    const LiveTables live = {.now = now_ * (kSecond / kTicksPerSecond),
                             .workers = {{3, &shared_.flows(0)}, {5, &shared_.flows(1)}}};
    return ExplainPacket(*snapshot_, kInterfaces, PacketText::Parse(packet).value(), &live);
  }
  Explanation Offline(const std::string& packet) {
    return ExplainPacket(*snapshot_, kInterfaces, PacketText::Parse(packet).value());
  }
  // Lets a worker know the packet's connection.
  void Know(const std::string& packet, const Flow& flow, size_t worker = 0) {
    const FlowHash hash = FlowHasher(kTestSeed).Hash(PacketText::Parse(packet)->Key());
    ASSERT_TRUE(
        shared_.flows(worker).Insert(hash, flow, {now_, snapshot_->timeouts()}).has_value());
  }
  Flow Established(BackendId backend, Ticks ago) const {
    return FlowOf(backend, FlowState::kTcpEstablished, false, now_ - ago);
  }
  // The backend that the hash does not choose, of the two of web.
  BackendId Other(const std::string& packet) { return Offline(packet).backend == "web-1" ? 1 : 0; }

  SharedState shared_;
  std::shared_ptr<const Snapshot> snapshot_ = MakeSnapshot(ThreeServices());
  Ticks now_ = 100000;
};

TEST_F(ExplainTest, WithEmptyTablesItSaysWhatItSaysOffline) {
  for (const char* packet :
       {kSyn, kAck, "udp 203.0.113.7:1 > 198.51.100.53:53", "udp 203.0.113.7:1 > 198.51.100.53:54",
        "udp [2001:db8::7]:1 > [2001:db8:100::53]:53", "icmp 203.0.113.7 > 198.51.100.10",
        "icmp 2001:db8::7 > 2001:db8:100::53", "tcp 203.0.113.7:1 > 192.0.2.200:80",
        "tcp 198.51.100.10:1 > 198.51.100.10:80", "tcp 203.0.113.7:1 > 198.51.100.99:80 syn"}) {
    const Explanation offline = Offline(packet);
    const Explanation live = Live(packet);
    EXPECT_EQ(live.packet, PacketText::Parse(packet)->ToString());
    EXPECT_EQ(live.verdict, offline.verdict) << packet;
    EXPECT_EQ(live.reason, offline.reason) << packet;
    EXPECT_EQ(live.service, offline.service) << packet;
    EXPECT_EQ(live.backend, offline.backend) << packet;
    EXPECT_EQ(live.flow, offline.flow) << packet;
    EXPECT_EQ(live.slot, offline.slot) << packet;
    EXPECT_EQ(live.home, offline.home) << packet;
    EXPECT_EQ(live.headers, offline.headers) << packet;
    EXPECT_THAT(live.known, IsEmpty()) << packet;
    ASSERT_EQ(live.steps.size(), offline.steps.size()) << packet;
    for (size_t i = 0; i < live.steps.size(); ++i) {
      if (live.steps[i] == offline.steps[i]) continue;
      EXPECT_THAT(
          live.steps[i],
          ::testing::AnyOf("no worker's flow table has the connection: a new one is entered",
                           HasSubstr("the worker that gets the packet may pick another")));
    }
  }
}

TEST_F(ExplainTest, AConnectionThatIsKnownStays) {
  const BackendId other = Other(kAck);
  Know(kAck, Established(other, 50), 1);
  for (const char* packet : {kAck, kSyn}) {
    const Explanation live = Live(packet);
    const std::string name = other == 0 ? "web-1" : "web-2";
    EXPECT_EQ(live.verdict, "forward");
    EXPECT_EQ(live.flow, "hit");
    EXPECT_EQ(live.backend, name) << "the entry's, not the hash's";
    EXPECT_THAT(live.home, Not(name)) << "the hash still has its say";
    EXPECT_THAT(live.steps, Contains("the flow table of the worker on core 5 has the connection: " +
                                     name + ", established, last packet 12s ago"));
    EXPECT_THAT(live.steps, Contains("so it stays with " + name));
    ASSERT_EQ(live.known.size(), 1u);
    EXPECT_EQ(live.known[0].core, 5u);
    EXPECT_EQ(live.known[0].entry, (FlowEntry{other, FlowState::kTcpEstablished, false, 12500}));
    EXPECT_FALSE(live.known[0].timed_out);
    EXPECT_THAT(live.headers, Contains(HasSubstr(other == 0 ? "10.0.0.11" : "10.0.0.12")));
  }
  const FlowHash hash = FlowHasher(kTestSeed).Hash(PacketText::Parse(kAck)->Key());
  EXPECT_EQ(shared_.flows(1).Peek(hash), Established(other, 50)) << "nothing has changed";
  EXPECT_FALSE(shared_.flows(0).Peek(hash).has_value());
}

TEST_F(ExplainTest, EveryProtocolAndFamilyFindsItsEntry) {
  for (const char* packet : {"udp 203.0.113.7:1 > 198.51.100.53:53",
                             "udp [2001:db8::7]:65535 > [2001:db8:100::53]:53"}) {
    const BackendId other = Offline(packet).backend == "dns-1" ? 3 : 2;
    Know(packet, FlowOf(other, FlowState::kUdp, true, now_));
    const Explanation live = Live(packet);
    EXPECT_EQ(live.flow, "hit") << packet;
    EXPECT_EQ(live.backend, other == 2 ? "dns-1" : "dns-2");
    EXPECT_THAT(live.steps, Contains(HasSubstr("udp but not confirmed, first packet 0s ago")));
  }
  const char* turns = "tcp 203.0.113.7:1 > 198.51.100.99:80";
  Know(turns, Established(5, 1));
  EXPECT_EQ(Live(turns).backend, "t-2");
  EXPECT_EQ(Live(turns).slot, std::nullopt) << "no hash decides";
}

TEST_F(ExplainTest, SaysWhyAConnectionIsNotKept) {
  const struct {
    BackendState state;
    Flow flow;
    const char* packet;
    const char* flow_says;
    const char* step;
  } rows[] = {
      {BackendState::kDrain, Established(0, 1), kAck, "hit", "so it stays with web-1"},
      {BackendState::kDrain, Established(0, 1), kSyn, "new",
       "web-1 takes no new connections, and a syn opens one: a backend is chosen anew"},
      {BackendState::kDown, Established(0, 1), kAck, "new",
       "web-1 is down: a backend is chosen anew"},
      {BackendState::kUp, FlowOf(0, FlowState::kTcpClosing, false, now_), kSyn, "new",
       "a syn on a connection that is closing opens another one: a backend is chosen anew"},
      {BackendState::kUp, Established(77, 1), kAck, "new",
       "that backend is not the service's any more: a backend is chosen anew"},
      {BackendState::kUp, Established(2, 1), kAck, "new",
       "that backend is not the service's any more: a backend is chosen anew"},
      {BackendState::kUp, Established(0, 901 * kTicksPerSecond), kAck, "new",
       "the flow table of the worker on core 3 has the connection: web-1, established, last packet "
       "15m 1s ago; timed out, so it does not count"},
  };
  for (const auto& row : rows) {
    shared_.flows(0) = FlowTable(64, PageSize::kLazy);
    snapshot_ = MakeSnapshot(ThreeServices(row.state));
    Know(kAck, row.flow);
    const Explanation live = Live(row.packet);
    EXPECT_EQ(live.flow, row.flow_says) << row.step;
    EXPECT_THAT(live.steps, Contains(row.step));
    if (live.flow != "hit" && live.home == live.backend) {
      EXPECT_FALSE(live.home_step.has_value());
    }
    if (row.state == BackendState::kDown && live.home == "web-1") {
      ASSERT_TRUE(live.home_step.has_value());
      EXPECT_THAT(live.steps[*live.home_step], HasSubstr("whose home, web-1, takes no new"));
    }
    // As the packet path does.
    Path path(snapshot_);
    path.now = now_;
    const FlowHash hash = FlowHasher(kTestSeed).Hash(PacketText::Parse(kAck)->Key());
    ASSERT_TRUE(
        path.shared().flows(0).Insert(hash, row.flow, {now_, snapshot_->timeouts()}).has_value());
    const std::vector<uint8_t> frame = PacketText::Parse(row.packet)->Frame();
    const Outcome outcome = path.Send(Bytes(frame.begin(), frame.end()));
    EXPECT_EQ(outcome.backend, live.backend) << row.step;
    EXPECT_EQ(outcome.flow(), live.flow) << row.step;
  }
}

TEST_F(ExplainTest, TheEntryThatCountsIsTheOneThatHasNotTimedOut) {
  const BackendId other = Other(kAck);
  Know(kAck, Established(1 - other, 901 * kTicksPerSecond), 0);
  Know(kAck, Established(other, 4), 1);
  const Explanation live = Live(kAck);
  EXPECT_EQ(live.flow, "hit");
  EXPECT_EQ(live.backend, other == 0 ? "web-1" : "web-2");
  ASSERT_EQ(live.known.size(), 2u);
  EXPECT_TRUE(live.known[0].timed_out);
  EXPECT_FALSE(live.known[1].timed_out);
}

// web lets one new connection a second in.
TEST_F(ExplainTest, NoLimitIsTouched) {
  for (int n = 0; n < 3; ++n) EXPECT_EQ(Live(kSyn).verdict, "forward");
  EXPECT_TRUE(shared_.new_flows(0).Take(1, now_ * (kSecond / kTicksPerSecond)));
  EXPECT_EQ(shared_.counters(0).packet_counts().received, 0u);
  EXPECT_EQ(shared_.counters(0).flow_count(), 0u);
}

// A worker's clock may be ahead of the one who asks.
TEST_F(ExplainTest, NoEntryIsFromTheFuture) {
  EXPECT_EQ(EntryOf(Established(1, Ticks{0} - 1), now_ * (kSecond / 4)).age_ms, 0u);
  EXPECT_EQ(EntryOf(Established(1, 3), now_ * (kSecond / 4)).age_ms, 750u);
}

}  // namespace
}  // namespace guideway
