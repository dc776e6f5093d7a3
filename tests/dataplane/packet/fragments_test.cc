// The fragments of a packet go where its first one went: in order, before it, without it.
#include "dataplane/packet/fragments.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

constexpr const char* kAll4 = "198.51.100.77";
constexpr const char* kAll6 = "2001:db8:10::77";

// Five backends, whose connections the hash alone gives away.
std::shared_ptr<const Snapshot> Five(TestOptions options = {}) {
  return MakeSnapshot(ServicesWithBackends(5), options);
}

Bytes Udp4(uint16_t port, size_t size = 100) {
  return Slice(Ipv4{}.With(Udp{.source_port = port}, Counting(size)), 20);
}
// Three fragments of a UDP packet from this port.
std::vector<Bytes> Three(uint16_t port, uint16_t identification = 1) {
  return FragmentsOf(Ipv4{.protocol = 17, .identification = identification}, Udp4(port), {48, 96});
}

TEST(Fragments, FollowTheirFirst) {
  const Bytes data = Counting(100);
  const auto of4 = [&](uint8_t protocol, const char* vip, const Bytes& whole) {
    return FragmentsOf(Ipv4{.destination = vip, .protocol = protocol}, Slice(whole, 20), {48, 96});
  };
  const auto of6 = [&](uint8_t protocol, const char* vip, const Bytes& whole) {
    return FragmentsOf(Ipv6{.destination = vip, .next_header = protocol}, Slice(whole, 40),
                       {48, 96});
  };
  Path other(Five());
  for (uint16_t port = 1; port <= 30; ++port) {
    const Ipv6 all6 = {.destination = kAll6};
    struct {
      const char* what;
      std::vector<Bytes> fragments;
    } const rows[] = {
        {"UDP", of4(17, kVip4, Ipv4{}.With(Udp{.source_port = port}, data))},
        {"TCP", of4(6, kVip4, Ipv4{}.With(Tcp{.source_port = port}, data))},
        {"ICMP", of4(1, kAll4, Ipv4{.destination = kAll4}.With(Icmp{.type = 13}, data))},
        {"GRE", of4(47, kAll4, Ipv4{.destination = kAll4, .protocol = 47}.Around(data))},
        {"UDP over IPv6", of6(17, kVip6, Ipv6{}.With(Udp{.source_port = port}, data))},
        {"TCP over IPv6", of6(6, kVip6, Ipv6{}.With(Tcp{.source_port = port}, data))},
        {"ICMPv6", of6(58, kAll6, all6.With(Icmpv6{.type = 144}, data))},
        {"UDP over IPv6, behind options",
         FragmentsOf(Ipv6{.next_header = 17, .extensions = {ExtensionHeader(0)}},
                     Slice(Ipv6{}.With(Udp{.source_port = port}, data), 40), {48, 96})},
    };
    for (const auto& row : rows) {
      Path path(Five());
      const Outcome first = path.Send(Framed(row.fragments[0]));
      EXPECT_EQ(first.text(), "forward") << row.what;
      EXPECT_EQ(first.flow(), "new") << row.what;
      for (size_t n = 1; n < 3; ++n) {
        const Outcome later = path.Send(Framed(row.fragments[n]));
        EXPECT_EQ(later.text(), "forward") << row.what;
        EXPECT_EQ(later.backend, first.backend) << row.what;
        EXPECT_EQ(later.service, first.service) << row.what;
        EXPECT_EQ(Hex(Slice(later.frame(), 34)), Hex(row.fragments[n])) << row.what;
      }
    }
    // The ports say where it goes, as of a packet that is whole.
    EXPECT_EQ(other.Send(Framed(Three(port, port)[0])).backend,
              other.Send(Framed(Ipv4{}.With(Udp{.source_port = port}))).backend);
  }
}

// Whatever the hash put into the outer header of the first is in that of the others.
TEST(Fragments, HaveOneOuterHeader) {
  struct {
    Forwarding forwarding;
    const char* backend;
    size_t at, size;  // in the outer packet
  } const rows[] = {
      {Forwarding::kIpip, kBackend4, 12, 8},  // spread source
      {Forwarding::kGre, kBackend6, 8, 32},   {Forwarding::kIpip, kBackend6, 0, 4},  // flow label
      {Forwarding::kGue, kBackend4, 20, 4},                                          // ports
      {Forwarding::kVxlan, kBackend6, 40, 4},
  };
  for (const auto& row : rows) {
    Path path(MakeSnapshot(
        Services(row.forwarding, row.backend),
        {.tunnel_source_ipv4 = "10.99.0.0/16", .tunnel_source_ipv6 = "2001:db8:5::/64"}));
    std::set<std::string> seen;
    for (uint16_t port = 1; port <= 20; ++port) {
      std::set<std::string> of_one;
      for (const Bytes& fragment : Three(port, port)) {
        of_one.insert(Hex(Slice(path.Send(Framed(fragment)).frame(), 14 + row.at, row.size)));
      }
      EXPECT_EQ(of_one.size(), 1u);
      seen.insert(of_one.begin(), of_one.end());
    }
    EXPECT_GT(seen.size(), 15u);
  }
}

TEST(Fragments, ThatComeFirstWait) {
  for (const auto& order : std::vector<std::vector<size_t>>{{1, 2, 0}, {2, 1, 0}}) {
    for (const bool in_one_burst : {false, true}) {
      Path path(Five());
      const std::vector<Bytes> fragments = Three(5);
      std::vector<Bytes> frames;
      for (const size_t n : order) frames.push_back(Framed(fragments[n]));
      std::vector<Outcome> outcomes;
      if (in_one_burst) {
        outcomes = path.Send(frames);
      } else {
        for (const Bytes& frame : frames) outcomes.push_back(path.Send(frame));
      }
      EXPECT_EQ(outcomes[0].text(), "held");
      EXPECT_EQ(outcomes[1].text(), "held");
      EXPECT_EQ(outcomes[2].text(), "forward");
      ASSERT_EQ(path.released().size(), 2u) << "as soon as the first has come";
      for (const uint64_t number : {0, 1}) {
        const Outcome& later = path.released()[number];
        EXPECT_EQ(later.text(), "forward");
        EXPECT_EQ(later.backend, outcomes[2].backend);
        EXPECT_EQ(Hex(Slice(later.frame(), 34)), Hex(fragments[order[number]]));
      }
      // In order of arrival: outer identifications count up.
      EXPECT_EQ(Get16(outcomes[2].frame(), 18), 0);
      EXPECT_EQ(Get16(path.released()[0].frame(), 18), 1);
      EXPECT_EQ(Get16(path.released()[1].frame(), 18), 2);
      EXPECT_EQ(path.counters().packet_counts().received, 3u);
    }
  }
}

TEST(Fragments, OfIpv6WaitToo) {
  Path path(Five());
  const std::vector<Bytes> fragments =
      FragmentsOf(Ipv6{.next_header = 17}, Slice(Ipv6{}.With(Udp{}, Counting(100)), 40), {48, 96});
  const std::vector<Vlan> tags = {{0x88a8, 5}, {0x8100, 7}};
  EXPECT_EQ(path.Send(Framed(fragments[1], tags)).text(), "held");
  const Outcome first = path.Send(Framed(fragments[0], tags));
  EXPECT_EQ(first.text(), "forward");
  ASSERT_EQ(path.released().size(), 1u);
  EXPECT_EQ(path.released()[0].backend, first.backend);
  EXPECT_EQ(Hex(Slice(path.released()[0].frame(), 14 + 8 + 20)), Hex(fragments[1]));
}

TEST(Fragments, WithoutAFirstAreDroppedInTime) {
  Path path(Five());
  EXPECT_EQ(path.Send(Framed(Three(5)[1])).text(), "held");
  EXPECT_EQ(path.counters().packet_counts().received, 0u) << "no verdict yet";
  path.nanoseconds = Fragments::kHoldTime - 1;
  path.TakeHeld(false);
  EXPECT_TRUE(path.released().empty());
  path.nanoseconds = Fragments::kHoldTime;
  path.TakeHeld(false);
  ASSERT_EQ(path.released().size(), 1u);
  EXPECT_EQ(path.released()[0].text(), "drop fragment_unknown");
  EXPECT_EQ(path.released()[0].flow(), "none");
  EXPECT_EQ(path.released()[0].backend, "");
  EXPECT_EQ(path.counters().packet_counts().of(Reason::kFragmentUnknown), 1u);
  // The first one comes too late for it, but not for those after it.
  EXPECT_EQ(path.Send(Framed(Three(5)[0])).text(), "forward");
  EXPECT_EQ(path.released().size(), 1u);
  EXPECT_EQ(path.Send(Framed(Three(5)[2])).text(), "forward");
}

TEST(Fragments, WithoutAFirstAreDroppedAtTheEnd) {
  Path path(Five());
  for (uint16_t id = 0; id < 100; ++id) path.Send(Framed(Three(5, id)[1]));
  path.TakeHeld(true);
  EXPECT_EQ(path.released().size(), 100u);
  for (const auto& [number, outcome] : path.released()) {
    EXPECT_EQ(outcome.text(), "drop fragment_unknown") << number;
  }
  path.TakeHeld(true);
  EXPECT_EQ(path.released().size(), 100u);
}

TEST(Fragments, ShareTheFateOfADroppedFirst) {
  std::vector<TestService> services = Services();
  services.push_back({.name = "down",
                      .vips = {"198.51.100.98"},
                      .backends = {{"x", kBackend4, BackendState::kDown}}});
  services.push_back({.name = "lost",
                      .vips = {"198.51.100.99"},
                      .backends = {{.name = "y", .address = kBackend4, .has_next_hop = false}}});
  services.push_back({.name = "slow",
                      .vips = {"198.51.100.97"},
                      .protocol = Protocol::kUdp,
                      .ports = {{53, 53}},
                      .new_flows_per_second = 1});
  const auto snapshot = MakeSnapshot(services, {.access = {{"203.0.113.66", Access::kDeny}}});
  const Bytes tcp = Tcp{.flags = kSyn}.Around(Counting(80)), udp = Udp{}.Around(Counting(80));
  struct {
    const char* what;
    Ipv4 ip;
    Bytes payload;
    const char* outcome;
    const char* of_held;
  } const rows[] = {
      {"a port that is not served", Ipv4{}, Tcp{.destination_port = 81}.Around(Counting(80)),
       "drop port_not_served", "drop port_not_served"},
      {"no backend", Ipv4{.destination = "198.51.100.98"}, tcp, "drop no_backend",
       "drop no_backend"},
      {"no next hop", Ipv4{.destination = "198.51.100.99"}, tcp, "drop no_next_hop",
       "drop no_next_hop"},
      {"over the limit", Ipv4{.destination = "198.51.100.97", .protocol = 17}, udp,
       "drop rate_limited", "drop rate_limited"},
      {"access denied: each by itself", Ipv4{.source = "203.0.113.66"}, tcp, "drop access_denied",
       nullptr},
      {"not to a VIP: each by itself", Ipv4{.destination = "10.1.1.1"}, tcp, "punt", nullptr},
  };
  for (const auto& row : rows) {
    const std::vector<Bytes> fragments = FragmentsOf(row.ip, row.payload, {40, 64});
    Path path(snapshot), backwards(snapshot);
    for (Path* p : {&path, &backwards}) {
      p->Send(Framed(Ipv4{.destination = "198.51.100.97"}.With(Udp{.source_port = 7})));
    }
    for (const Bytes& fragment : fragments) {
      EXPECT_EQ(path.Send(Framed(fragment)).text(), row.outcome) << row.what;
    }
    const Outcome early = backwards.Send(Framed(fragments[1]));
    EXPECT_EQ(early.text(), row.of_held != nullptr ? "held" : row.outcome) << row.what;
    EXPECT_EQ(backwards.Send(Framed(fragments[0])).text(), row.outcome) << row.what;
    if (row.of_held != nullptr) {
      ASSERT_EQ(backwards.released().size(), 1u) << row.what;
      EXPECT_EQ(backwards.released()[1].text(), row.of_held) << row.what;
    }
  }
}

// What names a packet: both addresses, the identification and, of IPv4, the protocol.
TEST(Fragments, OfAnotherPacketWait) {
  const Bytes bytes = Counting(40);
  struct {
    const char* what;
    Ipv4 later;
    bool is_same;
  } const rows[] = {
      {"the same", Ipv4{.protocol = 17}, true},
      {"with another TTL and class", Ipv4{.protocol = 17, .tos = 3, .ttl = 9}, true},
      {"another identification", Ipv4{.protocol = 17, .identification = 0x1235}, false},
      {"another protocol", Ipv4{.protocol = 6}, false},
      {"another source", Ipv4{.source = "203.0.113.8", .protocol = 17}, false},
      {"another VIP", Ipv4{.destination = kAll4, .protocol = 17}, false},
  };
  for (const auto& row : rows) {
    Path path(Five());
    EXPECT_EQ(path.Send(Framed(FragmentsOf(Ipv4{.protocol = 17}, Udp4(5), {48})[0])).text(),
              "forward");
    Ipv4 ip = row.later;
    ip.dont_fragment = false;
    ip.fragment_offset = 6;
    EXPECT_EQ(path.Send(Framed(ip.Around(bytes))).text(), row.is_same ? "forward" : "held")
        << row.what;
  }
  const Bytes first6 = FragmentsOf(Ipv6{.next_header = 17}, Udp4(5), {48})[0];
  struct {
    const char* what;
    Ipv6 later;
    uint32_t identification;
    bool is_same;
  } const rows6[] = {
      {"the same", Ipv6{.next_header = 17}, 0x12345678, true},
      {"the next header does not matter (RFC 8200)", Ipv6{.next_header = 6}, 0x12345678, true},
      {"the identification has 32 bits", Ipv6{.next_header = 17}, 0x92345678, false},
      {"another source", Ipv6{.source = "2001:db8:c::8", .next_header = 17}, 0x12345678, false},
      {"another VIP", Ipv6{.destination = kAll6, .next_header = 17}, 0x12345678, false},
  };
  for (const auto& row : rows6) {
    Path path(Five());
    EXPECT_EQ(path.Send(Framed(first6)).text(), "forward");
    Ipv6 ip = row.later;
    ip.extensions = {FragmentHeader(6, false, row.identification)};
    EXPECT_EQ(path.Send(Framed(ip.Around(bytes))).text(), row.is_same ? "forward" : "held")
        << row.what;
  }
}

TEST(Fragments, OfAForgottenFirstWait) {
  for (const bool forgotten : {false, true}) {
    Path path(Five());
    path.Send(Framed(Three(5)[0]));
    path.now += 5 * kTicksPerSecond;
    path.nanoseconds = forgotten ? 1 : 0;
    EXPECT_EQ(path.Send(Framed(Three(5)[1])).text(), forgotten ? "held" : "forward");
  }
}

// A number that comes again names the packet that came last.
TEST(Fragments, OfANumberThatIsUsedAgain) {
  Path path(Five());
  std::set<std::string> seen;
  for (uint16_t port = 1; port <= 20; ++port) {
    const std::string backend = path.Send(Framed(Three(port)[0])).backend;
    EXPECT_EQ(path.Send(Framed(Three(port)[1])).backend, backend);
    EXPECT_EQ(path.Send(Framed(Three(port)[2])).backend, backend);
    seen.insert(backend);
  }
  EXPECT_GT(seen.size(), 1u);
}

// More than there is room for: every one has a verdict in the end, and the oldest pays.
TEST(Fragments, MoreThanThereIsRoomFor) {
  Path path(Five());
  for (uint16_t id = 0; id < 1000; ++id) {
    EXPECT_EQ(path.Send(Framed(Three(5, id)[1])).text(), "held");
    EXPECT_EQ(path.released().size(), id < 256 ? 0u : id - 255u);
    EXPECT_TRUE(id < 256 || path.released().rbegin()->first == id - 256u);
  }
  path.TakeHeld(true);
  EXPECT_EQ(path.released().size(), 1000u);
  const PacketCounts counts = path.counters().packet_counts();
  EXPECT_EQ(counts.received, 1000u);
  EXPECT_EQ(counts.of(Reason::kFragmentUnknown), 1000u);
  // And it works as before.
  EXPECT_EQ(path.Send(Framed(Three(5, 5000)[1])).text(), "held");
  EXPECT_EQ(path.Send(Framed(Three(5, 5000)[0])).text(), "forward");
  EXPECT_EQ(path.released().rbegin()->second.text(), "forward");
}

// A flood of strays costs those their place that have waited longest, not those that come.
TEST(Fragments, AFirstThatComesSoonFindsItsOthersInAFlood) {
  Path path(Five());
  uint16_t stray = 1000;
  for (uint16_t id = 0; id < 300; ++id) {
    for (int n = 0; n < 100; ++n) path.Send(Framed(Three(6, stray++)[1]));
    EXPECT_EQ(path.Send(Framed(Three(5, id)[1])).text(), "held");
    for (int n = 0; n < 100; ++n) path.Send(Framed(Three(6, stray++)[1]));
    EXPECT_EQ(path.Send(Framed(Three(5, id)[0])).text(), "forward");
    EXPECT_EQ(path.released().rbegin()->second.text(), "forward");
  }
  EXPECT_EQ(path.counters().packet_counts().of(Verdict::kForward), 600u);
}

TEST(Fragments, AFullTableInOneGo) {
  Path path(Five());
  for (int n = 0; n < 8; ++n) {
    std::vector<Bytes> burst;
    for (int i = 0; i < 32; ++i) {
      burst.push_back(Framed(Ipv4{.protocol = 17,
                                  .dont_fragment = false,
                                  .more_fragments = true,
                                  .fragment_offset = static_cast<uint16_t>(6 + 32 * n + i)}
                                 .Around(Counting(8))));
    }
    for (const Outcome& outcome : path.Send(burst)) EXPECT_EQ(outcome.text(), "held");
  }
  const std::string backend =
      path.Send(Framed(FragmentsOf(Ipv4{.protocol = 17}, Udp4(5, 4000), {48})[0])).backend;
  ASSERT_EQ(path.released().size(), 256u);
  uint16_t identification = 1;
  for (const auto& [number, outcome] : path.released()) {
    EXPECT_EQ(outcome.backend, backend);
    EXPECT_EQ(Get16(outcome.frame(), 18), identification++) << "in order";
  }
}

TEST(Fragments, OverAChangeOfTheConfiguration) {
  const auto with = [](std::vector<TestBackend> backends, uint64_t version) {
    std::vector<TestService> services = Services();
    services[1].backends = std::move(backends);
    for (size_t i : {0, 2}) services[i].backends[0].id = static_cast<BackendId>(100 + i);
    return MakeSnapshot(services, {.version = version});
  };
  const TestBackend a = {.name = "a", .address = "10.0.0.1", .id = 1};
  const TestBackend b = {.name = "b", .address = "10.0.0.2", .id = 2};
  TestBackend a_drained = a;
  a_drained.state = BackendState::kDrain;
  // The first went to a, which leaves: the rest is of no use to anybody else.
  Path gone(with({a}, 1));
  EXPECT_EQ(gone.Send(Framed(Three(5)[0])).backend, "a");
  gone.Use(with({b}, 2));
  EXPECT_EQ(gone.Send(Framed(Three(5)[1])).text(), "held");
  gone.TakeHeld(true);
  EXPECT_EQ(gone.released().rbegin()->second.text(), "drop fragment_unknown");
  // Its id is another backend's, after a sweep: not its fragments.
  Path reused(with({a}, 1));
  EXPECT_EQ(reused.Send(Framed(Three(5)[0])).backend, "a");
  reused.Use(with({b}, 2));
  reused.SweepAll();
  TestBackend b_with_its_id = b;
  b_with_its_id.id = a.id;
  reused.Use(with({b_with_its_id}, 3));
  EXPECT_EQ(reused.Send(Framed(Three(5)[1])).text(), "held");
  // It is drained: what belongs to a packet goes on.
  Path drained(with({a}, 1));
  EXPECT_EQ(drained.Send(Framed(Three(5)[0])).backend, "a");
  drained.Use(with({a_drained, b}, 2));
  EXPECT_EQ(drained.Send(Framed(Three(5)[1])).backend, "a");
  // A held one goes by the configuration of the time when its first comes.
  Path held(with({a}, 1));
  EXPECT_EQ(held.Send(Framed(Three(5)[1])).text(), "held");
  held.Use(with({b}, 2));
  EXPECT_EQ(held.Send(Framed(Three(5)[0])).backend, "b");
  EXPECT_EQ(held.released()[0].backend, "b");
  // The VIP itself has left meanwhile.
  Path no_vip(with({a}, 1));
  EXPECT_EQ(no_vip.Send(Framed(Three(5)[1])).text(), "held");
  no_vip.Use(MakeSnapshot({{.name = "web", .vips = {"192.0.2.80"}}}, {.version = 2}));
  no_vip.TakeHeld(true);
  EXPECT_EQ(no_vip.released()[0].text(), "punt");
}

// What is no fragment is not held up, nor does it take up room.
TEST(Fragments, AWholePacketIsNone) {
  Path path(Five());
  EXPECT_EQ(path.Send(Framed(Ipv4{.dont_fragment = false}.With(Udp{}))).text(), "forward");
  EXPECT_EQ(
      path.Send(Framed(Ipv4{.protocol = 17, .dont_fragment = false, .fragment_offset = 6}.Around(
                    Counting(8))))
          .text(),
      "held")
      << "the whole packet of that number is no first fragment";
}

}  // namespace
}  // namespace guideway
