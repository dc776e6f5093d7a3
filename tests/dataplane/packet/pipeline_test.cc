// The packet path from outside: frames in, verdicts and frames out, compared byte for byte.
#include "dataplane/packet/pipeline.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "dataplane/packet/stages.h"
#include "maglev/headers.h"
#include "tests/support/packet_builder.h"
#include "tests/support/packet_path.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

Bytes TcpFrame(uint16_t port, uint8_t flags, const Bytes& payload = {}) {
  return Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port, .flags = flags}.Around(payload)));
}

// What an IPIP frame to 10.0.0.11 looks like.
Bytes Tunnelled(const Bytes& inner_packet, Ipv4 outer = {}) {
  outer.source = "192.0.2.1";
  outer.destination = "10.0.0.11";
  outer.protocol = 4;
  outer.ttl = 64;
  return Ethernet{.destination = "02:00:00:00:00:fe", .source = "02:00:00:00:00:01"}.Around(
      outer.Around(inner_packet));
}

Bytes WithPadding(Bytes frame, size_t size) {
  frame.resize(size, 0x55);
  return frame;
}

Bytes CutTo(Bytes frame, size_t size) {
  frame.resize(size);
  return frame;
}

const Bytes kTcp = Tcp{}.Around({1, 2, 3});
const Bytes kUdp = Udp{}.Around({9});

std::shared_ptr<const Snapshot> WebAndDns(TestOptions options = {}) {
  return MakeSnapshot({{.name = "web"},
                       {.name = "dns",
                        .vips = {"198.51.100.53"},
                        .protocol = Protocol::kUdp,
                        .ports = {{53, 53}},
                        .backends = {{"dns-1", "10.0.0.11"}}},
                       {.name = "lost",
                        .vips = {"198.51.100.99"},
                        .backends = {{.name = "x", .address = "10.9.9.9", .has_next_hop = false}}},
                       {.name = "down",
                        .vips = {"198.51.100.98"},
                        .backends = {{"y", "10.0.0.11", BackendState::kDown}}}},
                      options);
}

TEST(Pipeline, ForwardsByteForByte) {
  const Bytes options = {0x94, 0x04, 0x00, 0x00};  // router alert
  struct {
    const char* what;
    Bytes in;
    Bytes out;
  } const rows[] = {
      {"TCP, DF: outer DF, identification 0", Ethernet{}.Around(Ipv4{}.Around(kTcp)),
       Tunnelled(Ipv4{}.Around(kTcp), {.identification = 0})},
      {"TCP without DF: outer identification counts from 0",
       Ethernet{}.Around(Ipv4{.dont_fragment = false}.Around(kTcp)),
       Tunnelled(Ipv4{.dont_fragment = false}.Around(kTcp),
                 {.identification = 0, .dont_fragment = false})},
      {"and goes on to 1", Ethernet{}.Around(Ipv4{.dont_fragment = false}.Around(kTcp)),
       Tunnelled(Ipv4{.dont_fragment = false}.Around(kTcp),
                 {.identification = 1, .dont_fragment = false})},
      {"UDP", Ethernet{}.Around(Ipv4{.destination = "198.51.100.53", .protocol = 17}.Around(kUdp)),
       Tunnelled(Ipv4{.destination = "198.51.100.53", .protocol = 17}.Around(kUdp),
                 {.identification = 0})},
      {"DSCP and ECN are copied outside", Ethernet{}.Around(Ipv4{.tos = 0xb9 | 2}.Around(kTcp)),
       Tunnelled(Ipv4{.tos = 0xb9 | 2}.Around(kTcp), {.tos = 0xb9 | 2, .identification = 0})},
      {"the inner TTL is nobody's business but the client's",
       Ethernet{}.Around(Ipv4{.ttl = 1}.Around(kTcp)),
       Tunnelled(Ipv4{.ttl = 1}.Around(kTcp), {.identification = 0})},
      {"IP options stay inside", Ethernet{}.Around(Ipv4{.options = options}.Around(kTcp)),
       Tunnelled(Ipv4{.options = options}.Around(kTcp), {.identification = 0})},
      {"padding of a short frame does not travel",
       WithPadding(Ethernet{}.Around(Ipv4{}.Around(Tcp{}.Around({}))), 60),
       Tunnelled(Ipv4{}.Around(Tcp{}.Around({})), {.identification = 0})},
      {"a first fragment has ports",
       Ethernet{}.Around(
           Ipv4{.dont_fragment = false, .more_fragments = true}.Around(Tcp{}.Around({1, 2, 3, 4}))),
       Tunnelled(
           Ipv4{.dont_fragment = false, .more_fragments = true}.Around(Tcp{}.Around({1, 2, 3, 4})),
           {.identification = 2, .dont_fragment = false})},
  };
  Path path(WebAndDns());
  for (const auto& row : rows) {
    const Outcome outcome = path.Send(row.in);
    EXPECT_EQ(outcome.text(), "forward") << row.what;
    EXPECT_EQ(Hex(outcome.frame()), Hex(row.out)) << row.what;
  }
}

TEST(Pipeline, JudgesEveryPacket) {
  const Bytes good = Ethernet{}.Around(Ipv4{}.Around(kTcp));
  const auto tcp = [](const Ipv4& ip) { return Ethernet{}.Around(ip.Around(kTcp)); };
  const auto udp = [](const Udp& header, Ipv4 ip = {}) {
    ip.destination = "198.51.100.53";
    ip.protocol = 17;
    return Ethernet{}.Around(ip.Around(header.Around({1, 2, 3, 4, 5, 6, 7, 8})));
  };
  struct {
    const char* what;
    Bytes in;
    const char* outcome;
  } const rows[] = {
      {"empty frame", {}, "drop malformed"},
      {"13 bytes", CutTo(good, 13), "drop malformed"},
      {"Ethernet alone", CutTo(good, 14), "drop malformed"},
      {"IP header cut short", CutTo(good, 14 + 19), "drop malformed"},
      {"payload cut short", CutTo(good, good.size() - 1), "drop malformed"},
      {"version 5", tcp({.version = 5}), "drop malformed"},
      {"header of 4 words", tcp({.header_words = uint8_t{4}}), "drop malformed"},
      {"header beyond the packet", tcp({.header_words = uint8_t{15}}), "drop malformed"},
      {"total length less than the header", tcp({.total_length = uint16_t{19}}), "drop malformed"},
      {"total length 0", tcp({.total_length = uint16_t{0}}), "drop malformed"},
      {"total length beyond the frame", tcp({.total_length = uint16_t{44}}), "drop malformed"},
      {"wrong header checksum", tcp({.checksum = uint16_t{0xbeef}}), "drop malformed"},
      {"TCP header cut by the total length", tcp({.total_length = uint16_t{39}}), "drop malformed"},
      {"TCP offset under 5", Ethernet{}.Around(Ipv4{}.Around(Tcp{.header_words = 4}.Around({}))),
       "drop malformed"},
      {"TCP offset beyond the packet",
       Ethernet{}.Around(Ipv4{}.Around(Tcp{.header_words = 6}.Around({1, 2, 3}))),
       "drop malformed"},
      {"UDP length under 8", udp({.length = uint16_t{7}}), "drop malformed"},
      {"UDP length beyond the packet", udp({.length = uint16_t{17}}), "drop malformed"},
      {"UDP length shorter than the packet is fine", udp({.length = uint16_t{9}}), "forward"},
      {"UDP header cut",
       Ethernet{}.Around(
           Ipv4{.destination = "198.51.100.53", .protocol = 17}.Around({0, 53, 0, 53, 0, 8, 0})),
       "drop malformed"},
      {"first fragment of a long UDP datagram",
       Framed(Ipv4{.destination = "198.51.100.53",
                   .protocol = 17,
                   .dont_fragment = false,
                   .more_fragments = true}
                  .Around(Udp{.length = uint16_t{4000}}.Around(Bytes(8, 1)))),
       "forward"},
      {"multicast source", tcp({.source = "224.0.0.9"}), "drop malformed"},
      {"broadcast source", tcp({.source = "255.255.255.255"}), "drop malformed"},
      {"the VIP as source", tcp({.source = "198.51.100.10"}), "drop malformed"},
      {"malformed is judged before the VIP",
       tcp({.destination = "10.1.1.1", .checksum = uint16_t{1}}), "drop malformed"},
      {"ARP", Ethernet{.type = 0x0806}.Around(Bytes(28, 1)), "punt"},
      {"IPv6 that makes no sense", Ethernet{.type = 0x86dd}.Around(Bytes(40, 0x60)),
       "drop malformed"},
      {"not to a VIP", tcp({.destination = "198.51.100.11"}), "punt"},
      {"a later fragment not to a VIP",
       tcp({.destination = "198.51.100.11", .dont_fragment = false, .fragment_offset = 9}), "punt"},
      {"a later fragment to a VIP", tcp({.dont_fragment = false, .fragment_offset = 9}), "held"},
      {"a port that is not served",
       Ethernet{}.Around(Ipv4{}.Around(Tcp{.destination_port = 81}.Around({}))),
       "drop port_not_served"},
      {"UDP to a TCP service",
       Ethernet{}.Around(Ipv4{.protocol = 17}.Around(Udp{.destination_port = 80}.Around({}))),
       "drop port_not_served"},
      {"ICMP to a VIP",
       Ethernet{}.Around(Ipv4{.protocol = 1}.Around({8, 0, 0xf7, 0xff, 0, 0, 0, 0})), "reply"},
      {"ICMP to a VIP, of an odd length",
       Ethernet{}.Around(Ipv4{.protocol = 1}.Around({8, 0, 0xd6, 0xff, 0, 0, 0, 0, 0x21})),
       "reply"},
      {"ICMP to a VIP, wrong checksum",
       Ethernet{}.Around(Ipv4{.protocol = 1}.Around({8, 0, 0xf7, 0xfe, 0, 0, 0, 0})),
       "drop malformed"},
      {"ICMP elsewhere, wrong checksum",
       Ethernet{}.Around(Ipv4{.destination = "198.51.100.11", .protocol = 1}.Around(
           {8, 0, 0xf7, 0xfe, 0, 0, 0, 0})),
       "punt"},
      {"a first fragment of ICMP has a checksum of more than it holds",
       Ethernet{}.Around(Ipv4{.protocol = 1, .dont_fragment = false, .more_fragments = true}.Around(
           {8, 0, 0xf7, 0xfe, 0, 0, 0, 0})),
       "drop port_not_served"},
      {"ICMP header cut",
       Ethernet{}.Around(Ipv4{.protocol = 1}.Around({8, 0, 0xf7, 0xff, 0, 0, 0})),
       "drop malformed"},
      {"a fragment that ends at the last byte there can be",
       Ethernet{}.Around(
           Ipv4{.dont_fragment = false, .fragment_offset = 8188}.Around(Bytes(11, 0))),
       "held"},
      {"a fragment that ends behind it",
       Ethernet{}.Around(
           Ipv4{.dont_fragment = false, .fragment_offset = 8188}.Around(Bytes(12, 0))),
       "drop malformed"},
      {"no backend takes it", tcp({.destination = "198.51.100.98"}), "drop no_backend"},
      {"no route to the backend", tcp({.destination = "198.51.100.99"}), "drop no_next_hop"},
  };
  for (const auto& row : rows) {
    Path path(WebAndDns());
    EXPECT_EQ(path.Send(row.in).text(), row.outcome) << row.what;
  }
}

TEST(Pipeline, TrustsTheNicsChecksumVerdict) {
  Path path(WebAndDns());
  const Bytes wrong = Ethernet{}.Around(Ipv4{.checksum = uint16_t{1}}.Around(kTcp));
  EXPECT_EQ(path.Send(wrong, /*ip_checksum_good=*/true).text(), "forward");
}

TEST(Pipeline, WhatDoesNotFitIsAnswered) {
  const Bytes fits = TcpFrame(1, kTcpAck, Bytes(1500 - 60, 0));
  const Bytes too_big = TcpFrame(1, kTcpAck, Bytes(1500 - 60 + 1, 0));
  Path path(WebAndDns());
  EXPECT_EQ(path.Send(fits).text(), "forward");
  EXPECT_EQ(path.Send(too_big).text(), "reply");
}

TEST(Pipeline, ABurstIsHandledAsIfOneByOne) {
  std::vector<Bytes> frames;
  for (int i = 0; i < 32; ++i) {
    switch (i % 4) {
      case 0: frames.push_back(TcpFrame(static_cast<uint16_t>(i / 8), kTcpAck, {7})); break;
      case 1: frames.push_back(Ethernet{.type = 0x0806}.Around({})); break;
      case 2: frames.push_back({1, 2, 3}); break;
      case 3: frames.push_back(TcpFrame(77, kTcpSyn)); break;
    }
  }
  Path together(WebAndDns()), single(WebAndDns());
  const std::vector<Outcome> outcomes = together.Send(frames);
  for (int i = 0; i < 32; ++i) {
    const Outcome alone = single.Send(frames[i]);
    EXPECT_EQ(outcomes[i].text(), alone.text()) << i;
    EXPECT_EQ(Hex(outcomes[i].frame()), Hex(alone.frame())) << i;
  }
  EXPECT_EQ(together.counters().backend_counts(0).new_flows, 5u) << "ports 0 to 3, and 77";
}

std::vector<TestBackend> ThreeBackends(BackendState first, BackendState others) {
  return {{.name = "a", .address = "10.0.0.11", .state = first},
          {.name = "b", .address = "10.0.0.12", .state = others},
          {.name = "c", .address = "10.0.0.13", .state = others}};
}

std::shared_ptr<const Snapshot> Web(std::vector<TestBackend> backends, TestOptions options = {}) {
  return MakeSnapshot({{.backends = std::move(backends)}}, options);
}

constexpr BackendState kUp = BackendState::kUp;
constexpr BackendState kDrain = BackendState::kDrain;
constexpr BackendState kDown = BackendState::kDown;

TEST(Connections, SpreadAndStayWhereTheyAre) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  std::map<std::string, int> spread;
  for (uint16_t port = 0; port < 300; ++port) {
    const std::string backend = path.Send(TcpFrame(port, kTcpSyn)).backend;
    ++spread[backend];
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck, {1})).backend, backend);
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpFin | kTcpAck)).backend, backend);
  }
  EXPECT_EQ(spread.size(), 3u);
  for (const auto& [name, n] : spread) EXPECT_NEAR(n, 100, 40) << name;
}

// A port whose connection goes to `backend` when all are up.
uint16_t PortOf(const std::string& backend) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  for (uint16_t port = 1;; ++port) {
    if (path.Send(TcpFrame(port, kTcpSyn)).backend == backend) return port;
  }
}

// In either of the lines that a connection can be in: Match has nothing to do.
TEST(Connections, AreRecalledWhereverTheyAre) {
  const auto snapshot = Web(ThreeBackends(kUp, kUp));
  SharedState shared(1, 64, PageSize::kLazy);
  FlowTable& flows = shared.flows(0);
  const FlowClock clock(100, snapshot->timeouts());
  auto burst = std::make_unique<Burst>();
  burst->size = 48;
  int in_the_other_line = 0;
  for (uint32_t i = 0; i < burst->size; ++i) {
    Packet& p = burst->packets[i];
    p.StartOver();
    p.key = {};
    p.key.version = 4;
    std::memcpy(p.key.source, &i, sizeof(i));
    p.hash = snapshot->flow_hasher().Hash(p.key);
    p.parsed = {};
    p.parsed.tcp_flags = kTcpAck;
    const Flow flow = Flow::Of(1 + i % 3, FlowState::kTcpEstablished, false, 100);
    ASSERT_TRUE(flows.Insert(p.hash, flow, clock).has_value());
  }
  const auto recall = [&] {
    for (Packet& p : burst->all()) p.entry = flows.ExpectFirst(p.hash);
    Recall(*snapshot, flows, shared.counters(0), *burst);
  };
  for (const Packet& p : burst->all()) {
    in_the_other_line += !FlowTable::Glance(flows.ExpectFirst(p.hash), p.hash);
  }
  ASSERT_GT(in_the_other_line, 0);
  recall();
  EXPECT_TRUE(burst->all_known);
  for (uint32_t i = 0; i < burst->size; ++i) {
    const Packet& p = burst->packets[i];
    ASSERT_TRUE(p.entry) << i;
    EXPECT_EQ(p.entry.fingerprint(), p.hash.flow) << i;
    EXPECT_EQ(p.per_backend, &shared.counters(0).backend(1 + i % 3)) << i;
  }
  // What is in neither is unknown, and it alone.
  burst->packets[5].hash.flow ^= 1;
  recall();
  EXPECT_FALSE(burst->all_known);
  for (uint32_t i = 0; i < burst->size; ++i) {
    EXPECT_EQ(static_cast<bool>(burst->packets[i].entry), i != 5) << i;
  }
}

// Recall does not look for one that opens in its other line; Choose does.
TEST(Connections, ThatOpenOnceMoreAreFoundWhereverTheyAre) {
  Path path(Web(ThreeBackends(kUp, kUp)), 64);
  const auto open = [&](uint16_t port) {
    return path.Send(
        Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port, .flags = kTcpSyn}.Around({}))));
  };
  std::vector<std::string> backends;
  for (uint16_t port = 1; port <= 40; ++port) {
    const Outcome first = open(port);
    ASSERT_EQ(first.flow(), "new") << port;
    backends.push_back(first.backend);
  }
  for (uint16_t port = 1; port <= 40; ++port) {
    const Outcome again = open(port);
    EXPECT_EQ(again.flow(), "hit") << port;
    EXPECT_EQ(again.backend, backends[port - 1]) << port;
  }
}

// Its entry goes to another connection after Recall has seen it, before Choose comes to it.
TEST(Connections, ThatAreDisplacedWithinABurstAreChosenAnew) {
  Path path(Web(ThreeBackends(kUp, kUp)), 8);
  const auto frame = [](uint16_t port) {
    return Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port, .flags = kTcpAck}.Around({})));
  };
  path.Send(frame(999));
  path.now += 2000 * kTicksPerSecond;  // it has timed out, and nothing is to be matched again
  for (uint16_t port = 1; port <= 8; ++port) path.Send(frame(port));
  path.now += 1;
  std::vector<Bytes> burst;
  for (uint16_t port = 100; port < 104; ++port) burst.push_back(frame(port));
  for (uint16_t port = 1; port <= 8; ++port) burst.push_back(frame(port));
  const auto outcomes = path.Send(burst);
  int anew = 0;
  for (size_t i = 4; i < outcomes.size(); ++i) anew += outcomes[i].flow() == "new";
  EXPECT_GE(anew, 1);
}

TEST(Connections, DrainKeepsTheOldAndTakesNoNew) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  const uint16_t port = PortOf("a");
  ASSERT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, "a");
  path.Use(Web(ThreeBackends(kDrain, kUp)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck, {1})).backend, "a");
  for (uint16_t other = 1000; other < 1200; ++other) {
    EXPECT_NE(path.Send(TcpFrame(other, kTcpSyn)).backend, "a");
  }
  EXPECT_NE(path.Send(TcpFrame(port, kTcpSyn)).backend, "a") << "the client starts over";
}

TEST(Connections, ARepeatedSynKeepsABackendThatStillTakesConnections) {
  // The connection was moved to b while a was down; a is back, the entry says b.
  Path path(Web(ThreeBackends(kDown, kUp)));
  const uint16_t port = PortOf("a");
  const std::string moved_to = path.Send(TcpFrame(port, kTcpSyn)).backend;
  ASSERT_NE(moved_to, "a");
  path.Use(Web(ThreeBackends(kUp, kUp)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, moved_to);
}

TEST(Connections, ASynAfterTheEndIsAnotherConnection) {
  // Moved to another backend while a was down, ended there; the client takes the same port again.
  for (const uint8_t end : {kTcpFin, kTcpRst}) {
    Path path(Web(ThreeBackends(kDown, kUp)));
    const uint16_t port = PortOf("a");
    ASSERT_NE(path.Send(TcpFrame(port, kTcpSyn)).backend, "a");
    path.Send(TcpFrame(port, end | kTcpAck));
    path.Use(Web(ThreeBackends(kUp, kUp)));
    ASSERT_NE(path.Send(TcpFrame(port, kTcpAck)).backend, "a") << "the last ACK of the old one";
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, "a");
    EXPECT_EQ(path.counters().backend_counts(0).new_flows, 1u);
    EXPECT_EQ(path.counters().flow_count(), 1u);
  }
}

TEST(Connections, OfABackendThatIsDownAreChosenAnew) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  const uint16_t port = PortOf("a");
  ASSERT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, "a");
  EXPECT_EQ(path.counters().backend_counts(0).active_flows, 1u);
  path.Use(Web(ThreeBackends(kDown, kUp)));
  const std::string moved_to = path.Send(TcpFrame(port, kTcpAck, {1})).backend;
  EXPECT_NE(moved_to, "a");
  path.Use(Web(ThreeBackends(kUp, kUp)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck, {1})).backend, moved_to) << "and stays there";
  EXPECT_EQ(path.counters().backend_counts(0).active_flows, 0u);
}

TEST(Connections, WithoutAnyBackendKeepTheirEntryForItsReturn) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  const uint16_t port = PortOf("b");
  ASSERT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, "b");
  path.Use(Web(ThreeBackends(kDown, kDown)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck)).text(), "drop no_backend");
  path.Use(Web(ThreeBackends(kUp, kUp)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck)).backend, "b");
}

TEST(Connections, TimeOutByTheirState) {
  const FlowTimeouts timeouts = {
      .tcp_handshake_s = 10, .tcp_established_s = 900, .tcp_closing_s = 30, .udp_s = 60};
  struct {
    const char* what;
    std::vector<uint8_t> flags;
    bool last_has_data;
    uint32_t lives_s;
  } const rows[] = {
      {"handshake", {kTcpSyn}, false, 10},
      {"established", {kTcpSyn, kTcpAck}, false, 900},
      {"seen from the middle", {kTcpAck}, false, 900},
      {"closing by FIN", {kTcpSyn, kTcpAck, kTcpFin | kTcpAck}, false, 30},
      {"closing by RST", {kTcpSyn, kTcpAck, kTcpRst}, false, 30},
      {"an ACK after FIN keeps closing", {kTcpSyn, kTcpAck, kTcpFin | kTcpAck, kTcpAck}, false, 30},
      {"data after FIN restores it", {kTcpSyn, kTcpAck, kTcpFin | kTcpAck, kTcpAck}, true, 900},
  };
  for (const auto& row : rows) {
    for (const bool expired : {false, true}) {
      // The entry says a backend that the table would not choose: a miss shows.
      Path path(Web(ThreeBackends(kDown, kUp), {.timeouts = timeouts}));
      const uint16_t port = PortOf("a");
      std::string backend;
      for (size_t n = 0; n < row.flags.size(); ++n) {
        const bool data = n + 1 == row.flags.size() && row.last_has_data;
        backend = path.Send(TcpFrame(port, row.flags[n], data ? Bytes{1} : Bytes{})).backend;
      }
      path.Use(Web(ThreeBackends(kUp, kUp), {.timeouts = timeouts}));
      path.now += row.lives_s * kTicksPerSecond + (expired ? 1 : 0);
      EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck)).backend, expired ? "a" : backend) << row.what;
      EXPECT_EQ(path.counters().backend_counts(0).active_flows, expired ? 1u : 0u) << row.what;
    }
  }
}

TEST(Connections, ASecondLaterTheyAreConfirmed) {
  // A table of two lines, a connection in it, then a flood: it survives if it was confirmed.
  for (const bool confirmed : {false, true}) {
    Path path(Web(ThreeBackends(kUp, kUp)), 8);
    const uint16_t port = PortOf("a");
    path.Send(TcpFrame(port, kTcpSyn));
    path.now += confirmed ? kTicksPerSecond : kTicksPerSecond - 1;
    path.Send(TcpFrame(port, kTcpAck));
    for (uint16_t other = 20000; other < 20100; ++other) path.Send(TcpFrame(other, kTcpSyn));
    path.Use(Web(ThreeBackends(kDrain, kUp)));
    const std::string backend = path.Send(TcpFrame(port, kTcpAck)).backend;
    EXPECT_EQ(backend == "a", confirmed);
  }
}

TEST(Connections, AreConfirmedByAStreamOfPacketsToo) {
  // Half a second between packets: it is the first one that counts, not the one before.
  Path path(Web(ThreeBackends(kUp, kUp)), 8);
  const uint16_t port = PortOf("a");
  path.Send(TcpFrame(port, kTcpSyn));
  for (int i = 0; i < 2; ++i) {
    path.now += kTicksPerSecond / 2;
    path.Send(TcpFrame(port, kTcpAck));
  }
  for (uint16_t other = 20000; other < 20100; ++other) path.Send(TcpFrame(other, kTcpSyn));
  path.Use(Web(ThreeBackends(kDrain, kUp)));
  EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck)).backend, "a");
}

TEST(Connections, ThatTimedOutHaveToProveThemselvesAgain) {
  Path path(Web(ThreeBackends(kUp, kUp)), 8);
  const uint16_t port = PortOf("a");
  path.Send(TcpFrame(port, kTcpSyn));
  path.now += kTicksPerSecond;
  path.Send(TcpFrame(port, kTcpAck));  // confirmed
  path.now += 900 * kTicksPerSecond + 1;
  path.Send(TcpFrame(port, kTcpSyn));  // the same ports, another connection
  for (uint16_t other = 20000; other < 20100; ++other) path.Send(TcpFrame(other, kTcpSyn));
  path.Use(Web(ThreeBackends(kDrain, kUp)));
  EXPECT_NE(path.Send(TcpFrame(port, kTcpAck)).backend, "a");
}

TEST(Connections, OfAnotherServiceWithTheSameIdAreNotMistaken) {
  // The port moves from one service to another while the entry lives.
  const auto owned_by = [](bool first) {
    return MakeSnapshot({{.name = "old",
                          .ports = {first ? PortRange{80, 80} : PortRange{81, 81}},
                          .backends = {{"old-1", "10.0.0.1"}}},
                         {.name = "new",
                          .ports = {first ? PortRange{81, 81} : PortRange{80, 80}},
                          .backends = {{"new-1", "10.0.0.2"}}}});
  };
  Path path(owned_by(true));
  EXPECT_EQ(path.Send(TcpFrame(5, kTcpSyn)).backend, "old-1");
  path.Use(owned_by(false));
  EXPECT_EQ(path.Send(TcpFrame(5, kTcpAck)).backend, "new-1");
}

// What is known of a connection stands for what Match would say, until Match says another thing.
TEST(Connections, OfAServiceThatChangesAreMatchedAgain) {
  const TestBackend old_backend = {.name = "a", .address = "10.0.0.1", .id = 0};
  const TestBackend new_backend = {.name = "b", .address = "10.0.0.2", .id = 1};
  const TestService web = {.name = "web", .backends = {old_backend}};
  const TestService other = {.name = "other", .vips = {"192.0.2.80"}, .backends = {new_backend}};
  const auto with = [](TestService service, std::vector<std::string> vips,
                       std::vector<PortRange> ports = {{80, 80}}) {
    service.vips = std::move(vips);
    service.ports = std::move(ports);
    return service;
  };
  const std::vector<std::string> here = {"198.51.100.10"}, nowhere = {"192.0.2.81"},
                                 around = {"198.51.100.0/24"};
  struct {
    const char* what;
    std::vector<TestService> services;
    TestOptions options;
    const char* expected;
  } const rows[] = {
      {"nothing", {web, other}, {}, "web a hit"},
      {"another port as well", {with(web, here, {{80, 81}}), other}, {}, "web a hit"},
      {"its address is the other's", {with(web, nowhere), with(other, here)}, {}, "other b new"},
      {"the other has a prefix around it", {web, with(other, around)}, {}, "web a hit"},
      {"it has a prefix, the other the address",
       {with(web, around), with(other, here)},
       {},
       "other b new"},
      {"its port is the other's",
       {with(web, here, {{81, 81}}), with(other, here)},
       {},
       "other b new"},
      {"its port is nobody's", {with(web, here, {{81, 90}}), other}, {}, "drop port_not_served"},
      {"its address is nobody's", {with(web, nowhere), other}, {}, "punt"},
      {"its client is denied",
       {web, other},
       {.access = {{"203.0.113.0/24", Access::kDeny}}},
       "drop access_denied"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Path path(MakeSnapshot({web, other}));
    const Bytes packet = TcpFrame(1, kTcpAck);
    const auto send = [&] {
      const Outcome outcome = path.Send(packet);
      if (outcome.verdict != Verdict::kForward) return outcome.text();
      return absl::StrCat(outcome.service, " ", outcome.backend, " ", outcome.flow());
    };
    EXPECT_EQ(send(), "web a new");
    for (int n = 0; n < 3; ++n) {
      path.now += kTicksPerSecond;
      EXPECT_EQ(send(), "web a hit");
    }
    // In the same tick as the last packet, and later.
    path.Use(MakeSnapshot(row.services, row.options));
    EXPECT_EQ(send(), row.expected);
    path.now += kTicksPerSecond;
    if (!absl::EndsWith(row.expected, "new")) {
      EXPECT_EQ(send(), row.expected);
    }
    // And back, while its entry is still there.
    path.Use(MakeSnapshot({web, other}));
    EXPECT_TRUE(absl::StartsWith(send(), "web a "));
  }
}

// What a worker keeps of a backend goes by the Snapshot in force.
TEST(Connections, OfABackendThatChangesGoByWhatItIsNow) {
  const TestBackend a = {.name = "a", .address = "10.0.0.1", .id = 0};
  const TestBackend b = {
      .name = "b", .address = "10.0.0.2", .state = BackendState::kDrain, .id = 1};
  const TestBackend up_b = {.name = "b", .address = "10.0.0.2", .id = 1};
  const auto as = [&](BackendState state) {
    TestBackend changed = a;
    changed.state = state;
    return changed;
  };
  TestBackend moved = a;
  moved.address = "10.0.0.3";
  struct {
    const char* what;
    std::vector<TestBackend> backends;
    const char* expected;
    const char* address;
  } const rows[] = {
      {"nothing", {a, b}, "a hit", "10.0.0.1"},
      {"its address", {moved, b}, "a hit", "10.0.0.3"},
      {"drains", {as(BackendState::kDrain), up_b}, "a hit", "10.0.0.1"},
      {"is down", {as(BackendState::kDown), up_b}, "b new", "10.0.0.2"},
      {"is gone", {up_b}, "b new", "10.0.0.2"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Path path(Web({a, b}));
    const Bytes packet = TcpFrame(1, kTcpAck);
    const auto expect = [&](const char* expected, const char* address) {
      const Outcome outcome = path.Send(packet);
      EXPECT_EQ(absl::StrCat(outcome.backend, " ", outcome.flow()), expected);
      const Bytes destination = Slice(outcome.frame(), 14 + 16, 4);
      EXPECT_EQ(IpAddress::V4(destination.data()).ToString(), address);
    };
    expect("a new", "10.0.0.1");
    for (int n = 0; n < 3; ++n) {
      path.now += kTicksPerSecond;
      expect("a hit", "10.0.0.1");
    }
    path.Use(Web(row.backends));
    expect(row.expected, row.address);
  }
}

TEST(Connections, AreCountedUntilSweptAway) {
  Path path(Web(ThreeBackends(kUp, kUp)));
  for (uint16_t port = 1; port <= 90; ++port) path.Send(TcpFrame(port, kTcpSyn));
  const auto active = [&] {
    uint64_t sum = 0;
    for (BackendId id = 0; id < 3; ++id) sum += path.counters().backend_counts(id).active_flows;
    EXPECT_EQ(sum, path.counters().flow_count());
    return sum;
  };
  EXPECT_EQ(active(), 90u);
  path.SweepAll();
  EXPECT_EQ(active(), 90u);
  path.now += 10 * kTicksPerSecond + 1;
  path.SweepAll();
  EXPECT_EQ(active(), 0u);
  // A flood that evicts its like again and again leaves as many as there is room for.
  for (uint16_t port = 0; port < 20000; ++port) path.Send(TcpFrame(port, kTcpSyn));
  EXPECT_LE(active(), path.pipeline().flows().capacity());
}

TEST(Connections, ThatAreClosingAreCountedApart) {
  // In a table that is too small, with backends that go down and come back.
  Path path(Web(ThreeBackends(kUp, kUp)), 64);
  const FlowTable& flows = path.pipeline().flows();
  std::mt19937 random(1);
  const auto check = [&](const char* when) {
    std::array<uint64_t, 3> closing = {};
    flows.ReadPlaces(0, flows.capacity(), [&](const Flow& flow) {
      if (flow.state == FlowState::kTcpClosing) ++closing[flow.backend];
    });
    for (BackendId id = 0; id < 3; ++id) {
      const BackendCounts counts = path.counters().backend_counts(id);
      EXPECT_EQ(counts.closing_flows, closing[id]) << when << ", backend " << id;
      EXPECT_EQ(counts.open_flows(), counts.active_flows - closing[id]);
    }
    return closing[0] + closing[1] + closing[2];
  };
  constexpr uint8_t kFlags[] = {kTcpSyn, kTcpAck, kTcpAck, kTcpFin | kTcpAck, kTcpRst};
  uint64_t most = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 200; ++i) {
      const auto port = static_cast<uint16_t>(1 + random() % 100);
      const bool data = random() % 4 == 0;
      path.Send(TcpFrame(port, kFlags[random() % std::size(kFlags)], data ? Bytes{1} : Bytes{}));
    }
    path.now += random() % (2 * kTicksPerSecond);
    most = std::max(most, check("after packets"));
    path.Use(Web(ThreeBackends(round % 2 == 0 ? kDown : kUp, kUp)));
  }
  EXPECT_GT(most, 10u);
  path.now += 1000 * kTicksPerSecond;
  path.SweepAll();
  EXPECT_EQ(check("after all have timed out"), 0u);
}

TEST(Connections, OfARemovedBackendAreSweptBeforeItsIdMayServeAgain) {
  Path path(Web(ThreeBackends(kUp, kUp), {.version = 1}));
  for (uint16_t port = 1; port <= 90; ++port) path.Send(TcpFrame(port, kTcpSyn));
  path.SweepAll();
  EXPECT_EQ(path.pipeline().swept_version(), 1u);
  path.Use(Web({{.name = "b", .address = "10.0.0.12", .id = 1}}, {.version = 2}));
  EXPECT_EQ(path.pipeline().swept_version(), 1u);
  path.SweepAll();
  EXPECT_EQ(path.pipeline().swept_version(), 2u);
  EXPECT_EQ(path.counters().backend_counts(0).active_flows, 0u);
  EXPECT_EQ(path.counters().backend_counts(2).active_flows, 0u);
  EXPECT_EQ(path.counters().backend_counts(1).active_flows, path.counters().flow_count());
  // A sweep that began under version 2 proves nothing about version 3.
  path.Sweep(1);
  path.Use(Web({}, {.version = 3}));
  path.Sweep(path.pipeline().flows().lines() - 1);
  EXPECT_EQ(path.pipeline().swept_version(), 2u);
  path.SweepAll();
  EXPECT_EQ(path.pipeline().swept_version(), 3u);
  EXPECT_EQ(path.counters().flow_count(), 0u);
}

TEST(Connections, WithoutAPlaceInTheTableGoWhereTheTableSays) {
  Path path(Web(ThreeBackends(kUp, kUp)), 8), roomy(Web(ThreeBackends(kUp, kUp)));
  for (uint16_t port = 1; port <= 8; ++port) path.Send(TcpFrame(port, kTcpSyn));
  path.now += kTicksPerSecond;
  for (uint16_t port = 1; port <= 8; ++port) path.Send(TcpFrame(port, kTcpAck));
  for (uint16_t port = 100; port < 200; ++port) {
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend,
              roomy.Send(TcpFrame(port, kTcpSyn)).backend);
  }
  EXPECT_EQ(path.counters().flows_not_stored_count(), 100u);
  uint64_t opened = 0;
  for (BackendId id = 0; id < 3; ++id) opened += path.counters().backend_counts(id).new_flows;
  for (int i = 0; i < 1000; ++i) path.Send(TcpFrame(100, kTcpAck));
  for (BackendId id = 0; id < 3; ++id) opened -= path.counters().backend_counts(id).new_flows;
  EXPECT_EQ(opened, 0u) << "later packets of it open nothing";
  EXPECT_EQ(path.counters().flows_not_stored_count(), 100u);
  EXPECT_EQ(path.counters().flow_count(), 8u);
}

TEST(Connections, PushedOutByAFloodAreCounted) {
  Path path(Web(ThreeBackends(kUp, kUp)), 8);
  for (uint16_t port = 1; port <= 8; ++port) path.Send(TcpFrame(port, kTcpSyn));
  EXPECT_EQ(path.counters().flows_evicted_count(), 0u);
  for (uint16_t port = 100; port < 150; ++port) path.Send(TcpFrame(port, kTcpSyn));
  EXPECT_EQ(path.counters().flows_evicted_count(), 50u);
  path.now += 60 * kTicksPerSecond;
  for (uint16_t port = 200; port < 208; ++port) path.Send(TcpFrame(port, kTcpSyn));
  EXPECT_EQ(path.counters().flows_evicted_count(), 50u) << "these had timed out";
  EXPECT_EQ(path.counters().flow_count(), 8u);
}

TEST(Schedulers, RoundRobinGoesByTurnsAndConnectionsStay) {
  Path path(MakeSnapshot({{.backends = {{.name = "a", .address = "10.0.0.11", .weight = 2},
                                        {.name = "b", .address = "10.0.0.12", .weight = 1},
                                        {.name = "off", .address = "10.0.0.13", .state = kDown}},
                           .scheduler = Scheduler::kRoundRobin}}));
  std::string turns;
  for (uint16_t port = 1; port <= 9; ++port) {
    const std::string backend = path.Send(TcpFrame(port, kTcpSyn)).backend;
    turns += backend;
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck, {1})).backend, backend);
    EXPECT_EQ(path.Send(TcpFrame(port, kTcpSyn)).backend, backend) << "a repeated SYN is no turn";
  }
  EXPECT_EQ(turns, "aabaabaab");
}

TEST(Schedulers, EveryUdpFlowIsATurn) {
  Path path(MakeSnapshot({{.name = "dns",
                           .protocol = Protocol::kUdp,
                           .ports = {{53, 53}},
                           .backends = {{"a", "10.0.0.11"}, {"b", "10.0.0.12"}},
                           .scheduler = Scheduler::kRoundRobin}}));
  std::string turns;
  for (int n = 0; n < 8; ++n) {
    const auto port = static_cast<uint16_t>(1 + n / 2);  // two packets of each
    turns += path.Send(Ethernet{}.Around(
                           Ipv4{.protocol = 17}.Around(Udp{.source_port = port}.Around({1}))))
                 .backend;
  }
  EXPECT_EQ(turns, "aabbaabb");
}

// Of least_connections what counts is all workers' connections, not only one's own.
TEST(Schedulers, LeastConnectionsCountsEveryWorker) {
  const auto snapshot = MakeSnapshot({{.backends = {{"a", "10.0.0.11"}, {"b", "10.0.0.12"}},
                                       .scheduler = Scheduler::kLeastConnections}});
  Path alone(snapshot);
  std::map<std::string, int> spread;
  for (uint16_t port = 1; port <= 100; ++port) {
    ++spread[alone.Send(TcpFrame(port, kTcpSyn)).backend];
  }
  EXPECT_NEAR(spread["a"], 50, 5);

  Path path(snapshot, 1024, 2);
  path.other_worker().backend(0).active_flows.Add(1000);
  spread.clear();
  for (uint16_t port = 1; port <= 100; ++port) {
    ++spread[path.Send(TcpFrame(port, kTcpSyn)).backend];
  }
  EXPECT_GE(spread["b"], 98) << "the other worker has given a many";
}

// What no flow table remembers goes where every balancer would send it, whatever the scheduler.
TEST(Schedulers, TheHashDecidesForWhatNothingIsKnownOf) {
  for (const Scheduler scheduler :
       {Scheduler::kRoundRobin, Scheduler::kRandom, Scheduler::kLeastConnections}) {
    const auto snapshot =
        MakeSnapshot({{.backends = ThreeBackends(kUp, kUp), .scheduler = scheduler}});
    Path by_hash(Web(ThreeBackends(kUp, kUp))), path(snapshot), full(snapshot, 8);
    for (uint16_t port = 1; port <= 8; ++port) full.Send(TcpFrame(port, kTcpSyn));
    full.now += kTicksPerSecond;
    for (uint16_t port = 1; port <= 8; ++port) full.Send(TcpFrame(port, kTcpAck));
    for (uint16_t port = 100; port < 150; ++port) {
      const std::string expected = by_hash.Send(TcpFrame(port, kTcpSyn)).backend;
      EXPECT_EQ(path.Send(TcpFrame(port, kTcpAck)).backend, expected)
          << "from the middle of a connection";
      EXPECT_EQ(full.Send(TcpFrame(port, kTcpSyn)).backend, expected) << "no place to remember it";
      EXPECT_EQ(full.Send(TcpFrame(port, kTcpAck)).backend, expected);
    }
    EXPECT_EQ(full.counters().flows_not_stored_count(), 50u);
  }
}

TEST(Schedulers, WithoutABackendDrop) {
  for (const Scheduler scheduler :
       {Scheduler::kRoundRobin, Scheduler::kRandom, Scheduler::kLeastConnections}) {
    Path path(MakeSnapshot({{.backends = ThreeBackends(kDown, kDrain), .scheduler = scheduler}}));
    EXPECT_EQ(path.Send(TcpFrame(1, kTcpSyn)).text(), "drop no_backend");
    EXPECT_EQ(path.Send(TcpFrame(1, kTcpAck)).text(), "drop no_backend");
  }
}

TEST(Affinity, AClientHasOneBackend) {
  const auto backends_of = [](Affinity affinity, const std::vector<std::string>& clients) {
    Path path(MakeSnapshot({{.backends = ThreeBackends(kUp, kUp), .affinity = affinity}}));
    std::set<std::string> backends;
    for (const std::string& client : clients) {
      for (uint16_t port = 1; port <= 20; ++port) {
        backends.insert(path.Send(Ethernet{}.Around(Ipv4{.source = client.c_str()}.Around(
                                      Tcp{.source_port = port, .flags = kTcpSyn}.Around({}))))
                            .backend);
      }
    }
    return backends.size();
  };
  std::vector<std::string> one = {"203.0.113.7"}, prefix, many;
  for (int i = 0; i < 30; ++i) {
    prefix.push_back(absl::StrCat("203.0.113.", i));
    many.push_back(absl::StrCat("203.0.", i, ".7"));
  }
  EXPECT_EQ(backends_of({}, one), 3u);
  EXPECT_EQ(backends_of({.to_client = true}, one), 1u);
  EXPECT_EQ(backends_of({.to_client = true}, prefix), 3u);
  EXPECT_EQ(backends_of({.to_client = true, .ipv4_bits = 24}, prefix), 1u);
  EXPECT_EQ(backends_of({.to_client = true, .ipv4_bits = 24}, many), 3u);
}

// Whatever comes in, nothing is read or written outside the frame and its headroom (the buffers are
// exact: AddressSanitizer watches), every packet gets a verdict, and what is forwarded is the very
// packet inside. Prints the seed that failed.
TEST(Hostile, MutatedFrames) {
  const std::vector<Bytes> seeds = {
      Ethernet{}.Around(Ipv4{}.Around(Tcp{}.Around({1, 2, 3}))),
      Ethernet{}.Around(Ipv4{.destination = "198.51.100.53", .protocol = 17}.Around(kUdp)),
      Ethernet{}.Around(Ipv4{.options = Bytes(40, 1)}.Around(kTcp)),
      Ethernet{}.Around(Ipv4{.dont_fragment = false, .more_fragments = true}.Around(kTcp)),
  };
  Path path(WebAndDns());
  std::map<std::string, int> seen;
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    std::mt19937 random(seed);
    std::vector<Bytes> frames;
    for (int i = 0; i < 32; ++i) {
      Bytes frame = seeds[random() % seeds.size()];
      for (int n = random() % 4; n > 0; --n) frame[random() % frame.size()] ^= 1 << random() % 8;
      if (random() % 4 == 0) frame.resize(random() % (frame.size() + 30));
      frames.push_back(frame);
    }
    // Half of the bursts come with checksums that the NIC has accepted, so mutations get further.
    const std::vector<Outcome> outcomes = path.Send(frames, seed % 2 == 0);
    for (int i = 0; i < 32; ++i) {
      ++seen[outcomes[i].text()];
      if (outcomes[i].verdict != Verdict::kForward) continue;
      const Bytes inner = Slice(outcomes[i].frame(), 34);
      ASSERT_LE(inner.size(), frames[i].size() - 14) << "seed " << seed;
      ASSERT_TRUE(std::equal(inner.begin(), inner.end(), frames[i].begin() + 14))
          << "seed " << seed << " packet " << i;
    }
  }
  for (const char* expected :
       {"forward", "punt", "drop malformed", "drop port_not_served", "held"}) {
    EXPECT_GT(seen[expected], 100) << expected;
  }
}

TEST(Accounting, ByServiceAndBackend) {
  Path path(WebAndDns());
  const Bytes frame = TcpFrame(1, kTcpSyn);
  path.Send({frame, frame, Ethernet{}.Around(Ipv4{.destination = "198.51.100.98"}.Around(kTcp)),
             Ethernet{.type = 0x0806}.Around({})});
  const ServiceCounts web = path.shared().service_counts(0);
  EXPECT_EQ(web.packets, 2u);
  EXPECT_EQ(web.bytes, 2 * frame.size());
  EXPECT_EQ(web.forwarded, 2u);
  EXPECT_EQ(web.dropped, 0u);
  EXPECT_EQ(path.shared().service_counts(3).dropped, 1u);
  const BackendCounts backend = path.counters().backend_counts(0);
  EXPECT_EQ(backend.packets, 2u);
  EXPECT_EQ(backend.bytes, 2 * (frame.size() + 20));
  EXPECT_EQ(backend.new_flows, 1u);
  EXPECT_EQ(backend.active_flows, 1u);
}

// A service's counts are those of its backends, added up; ids of backends serve again.
TEST(Accounting, OfAServiceGoesOnWhateverBackendsItHas) {
  const auto with = [](const char* web_backend, BackendId web_id, BackendId other_id) {
    return MakeSnapshot(
        {{.backends = {{.name = web_backend, .address = "10.0.0.11", .id = web_id}}},
         {.name = "other",
          .vips = {"198.51.100.11"},
          .backends = {{.name = "o", .address = "10.0.0.12", .id = other_id}}}});
  };
  Path path(with("a", 0, 1));
  const Bytes to_web = TcpFrame(1, kTcpAck);
  const Bytes to_other =
      Ethernet{}.Around(Ipv4{.destination = "198.51.100.11"}.Around(Tcp{}.Around({1})));
  const auto packets = [&](ServiceId id) { return path.shared().service_counts(id).packets; };
  path.Send({to_web, to_web, to_other});
  EXPECT_EQ(packets(0), 2u);
  EXPECT_EQ(packets(1), 1u);
  path.Use(with("b", 2, 1));  // another backend
  path.Send({to_web});
  EXPECT_EQ(packets(0), 3u);
  EXPECT_EQ(packets(1), 1u);
  path.Use(with("b", 2, 0));  // whose id the other service gets
  path.Send({to_web, to_other, to_other});
  EXPECT_EQ(packets(0), 4u);
  EXPECT_EQ(packets(1), 3u);
  EXPECT_EQ(path.shared().service_counts(1).bytes, 3 * to_other.size());
  path.Use(with("b", 2, 1));  // and gives back
  path.Send({to_web, to_other});
  EXPECT_EQ(packets(0), 5u);
  EXPECT_EQ(packets(1), 4u);
  EXPECT_EQ(path.shared().service_counts(1).forwarded, 4u);
}

}  // namespace
}  // namespace guideway
