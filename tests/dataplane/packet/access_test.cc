// What a packet has to do with us: VIPs, their prefixes and ports, who may send, and the order in
// which it is judged.
#include <gtest/gtest.h>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

struct Row {
  const char* what;
  Bytes packet;
  const char* outcome;
  const char* service;
};

void Check(const std::vector<Row>& rows, std::shared_ptr<const Snapshot> snapshot) {
  for (const Row& row : rows) {
    Path path(snapshot);
    const Outcome outcome = path.Send(Framed(row.packet));
    EXPECT_EQ(outcome.text(), row.outcome) << row.what;
    EXPECT_EQ(outcome.service, row.service) << row.what;
  }
}

Bytes Tcp4(uint16_t port, const char* destination = kVip4) {
  return Ipv4{.destination = destination}.With(Tcp{.destination_port = port});
}
Bytes Udp4(uint16_t port, const char* destination = kVip4) {
  return Ipv4{.destination = destination}.With(Udp{.destination_port = port});
}
Bytes Tcp6(uint16_t port, const char* destination = kVip6) {
  return Ipv6{.destination = destination}.With(Tcp{.destination_port = port});
}
Bytes Udp6(uint16_t port, const char* destination = kVip6) {
  return Ipv6{.destination = destination}.With(Udp{.destination_port = port});
}

TEST(Match, PortsAndProtocols) {
  const std::vector<std::string> both = {kVip4, kVip6};
  const std::vector<std::string> others = {"198.51.100.77", "2001:db8:10::77"};
  const auto snapshot = MakeSnapshot(
      {{.name = "low", .vips = both, .ports = {{0, 79}, {81, 99}}, .backends = {{"a", kBackend4}}},
       {.name = "web", .vips = both, .ports = {{80, 80}}, .backends = {{"b", kBackend4}}},
       {.name = "high", .vips = both, .ports = {{65000, 65535}}, .backends = {{"c", kBackend4}}},
       {.name = "udp",
        .vips = both,
        .protocol = Protocol::kUdp,
        .ports = {{0, 65535}},
        .backends = {{"d", kBackend4}}},
       {.name = "all",
        .vips = others,
        .protocol = Protocol::kAny,
        .backends = {{"e", kBackend4}}}});
  const char* const all4 = "198.51.100.77";
  const char* const all6 = "2001:db8:10::77";
  const auto protocol4 = [&](uint8_t protocol, const char* to) {
    return Ipv4{.destination = to, .protocol = protocol}.Around(Counting(20));
  };
  const auto protocol6 = [&](uint8_t protocol, const char* to) {
    return Ipv6{.destination = to, .next_header = protocol}.Around(Counting(20));
  };
  Check(
      {
          {"port 0", Tcp4(0), "forward", "low"},
          {"the last of a range", Tcp4(79), "forward", "low"},
          {"between two ranges", Tcp4(80), "forward", "web"},
          {"the first of the next", Tcp4(81), "forward", "low"},
          {"the last of it", Tcp4(99), "forward", "low"},
          {"behind it", Tcp4(100), "drop port_not_served", ""},
          {"before the last", Tcp4(64999), "drop port_not_served", ""},
          {"the last there is", Tcp4(65535), "forward", "high"},
          {"every port of UDP: the first", Udp4(0), "forward", "udp"},
          {"the last", Udp4(65535), "forward", "udp"},
          {"IPv6: between two ranges", Tcp6(80), "forward", "web"},
          {"behind", Tcp6(100), "drop port_not_served", ""},
          {"UDP", Udp6(443), "forward", "udp"},
          {"GRE to a VIP of TCP and UDP", protocol4(47, kVip4), "drop port_not_served", ""},
          {"ESP", protocol6(50, kVip6), "drop port_not_served", ""},
          {"ICMP other than echo", Ipv4{}.With(Icmp{.type = 13}), "drop port_not_served", ""},
          {"ICMP echo reply", Ipv4{}.With(Icmp{.type = 0}), "drop port_not_served", ""},
          {"neighbor solicitation", Ipv6{}.With(Icmpv6{.type = 135}, Bytes(16, 1)),
           "drop port_not_served", ""},
          {"any protocol: TCP", Tcp4(1234, all4), "forward", "all"},
          {"UDP", Udp4(1234, all4), "forward", "all"},
          {"GRE", protocol4(47, all4), "forward", "all"},
          {"ESP", protocol4(50, all4), "forward", "all"},
          {"IPv4 inside", protocol4(4, all4), "forward", "all"},
          {"IPv6 hop-by-hop options in IPv4 are a protocol like any", protocol4(0, all4), "forward",
           "all"},
          {"ICMPv6 in IPv4 is no ICMP", protocol4(58, all4), "forward", "all"},
          {"ICMP other than echo", Ipv4{.destination = all4}.With(Icmp{.type = 13}), "forward",
           "all"},
          {"ICMP echo is answered", Ipv4{.destination = all4}.With(Icmp{}), "reply", ""},
          {"IPv6: TCP", Tcp6(1, all6), "forward", "all"},
          {"GRE over IPv6", protocol6(47, all6), "forward", "all"},
          {"ICMP in IPv6 is no ICMPv6", protocol6(1, all6), "forward", "all"},
          {"ICMPv6 other than echo", Ipv6{.destination = all6}.With(Icmpv6{.type = 129}), "forward",
           "all"},
          {"SCTP", protocol6(132, all6), "forward", "all"},
          {"not a VIP", Tcp4(80, "198.51.100.11"), "punt", ""},
          {"not a VIP, IPv6", Tcp6(80, "2001:db8:10::11"), "punt", ""},
      },
      snapshot);
}

TEST(Match, TheLongestPrefixAloneCounts) {
  const auto service = [](const char* name, const char* vip, uint16_t port) {
    return TestService{
        .name = name, .vips = {vip}, .ports = {{port, port}}, .backends = {{name, kBackend4}}};
  };
  const auto snapshot = MakeSnapshot(
      {service("24", "198.51.100.0/24", 80), service("24-other", "198.51.100.0/24", 443),
       service("28", "198.51.100.0/28", 80), service("host", "198.51.100.10", 80),
       service("32v6", "2001:db8::/32", 80), service("64v6", "2001:db8:0:1::/64", 80),
       service("hostv6", "2001:db8:0:1::5", 80)});
  Check(
      {
          {"the shortest", Tcp4(80, "198.51.100.200"), "forward", "24"},
          {"its other service", Tcp4(443, "198.51.100.200"), "forward", "24-other"},
          {"its first address", Tcp4(80, "198.51.100.16"), "forward", "24"},
          {"its last address", Tcp4(80, "198.51.100.255"), "forward", "24"},
          {"behind it", Tcp4(80, "198.51.101.0"), "punt", ""},
          {"a longer one inside", Tcp4(80, "198.51.100.15"), "forward", "28"},
          {"a port that only the shorter serves", Tcp4(443, "198.51.100.15"),
           "drop port_not_served", ""},
          {"an address inside both", Tcp4(80, "198.51.100.10"), "forward", "host"},
          {"a port that only the shortest serves", Tcp4(443, "198.51.100.10"),
           "drop port_not_served", ""},
          {"IPv6: the shortest", Tcp6(80, "2001:db8:ffff::1"), "forward", "32v6"},
          {"inside", Tcp6(80, "2001:db8:0:1::6"), "forward", "64v6"},
          {"one address", Tcp6(80, "2001:db8:0:1::5"), "forward", "hostv6"},
          {"another port of it", Tcp6(443, "2001:db8:0:1::5"), "drop port_not_served", ""},
          {"beside", Tcp6(80, "2001:db9::"), "punt", ""},
          {"the address of a packet is the VIP, not the prefix: echo",
           Ipv4{.destination = "198.51.100.200"}.With(Icmp{}), "reply", ""},
      },
      snapshot);
}

// The inner packet keeps the very address that the client sent to.
TEST(Match, APrefixKeepsItsAddresses) {
  Path path(MakeSnapshot({{.vips = {"198.51.100.0/24"}}}));
  for (const char* vip : {"198.51.100.0", "198.51.100.77", "198.51.100.255"}) {
    EXPECT_EQ(Hex(Slice(path.Send(Framed(Tcp4(80, vip))).frame(), 34)), Hex(Tcp4(80, vip)));
  }
}

TEST(Access, TheLongestPrefixAroundTheSource) {
  std::vector<TestService> services = Services();
  const auto snapshot = MakeSnapshot(services, {.access = {
                                                    {"203.0.113.0/24", Access::kDeny},
                                                    {"203.0.113.64/26", Access::kAllow},
                                                    {"203.0.113.65", Access::kDeny},
                                                    {"192.0.2.0/24", Access::kAllow},
                                                    {"2001:db8:c::/48", Access::kDeny},
                                                    {"2001:db8:c:1::/64", Access::kAllow},
                                                    {"2001:db8:c:1::5", Access::kDeny},
                                                }});
  const auto from4 = [](const char* source) { return Ipv4{.source = source}.With(Tcp{}); };
  const auto from6 = [](const char* source) { return Ipv6{.source = source}.With(Tcp{}); };
  const Bytes quote =
      Ipv4{.source = kVip4, .destination = "198.18.0.1"}.With(Tcp{.source_port = 80});
  Check(
      {
          {"denied", from4("203.0.113.7"), "drop access_denied", ""},
          {"allowed inside", from4("203.0.113.66"), "forward", "web"},
          {"denied inside that", from4("203.0.113.65"), "drop access_denied", ""},
          {"on no list", from4("198.18.0.1"), "forward", "web"},
          {"on an allow list", from4("192.0.2.9"), "forward", "web"},
          {"IPv6: denied", from6("2001:db8:c::1"), "drop access_denied", ""},
          {"allowed inside", from6("2001:db8:c:1::1"), "forward", "web"},
          {"denied inside that", from6("2001:db8:c:1::5"), "drop access_denied", ""},
          {"on no list", from6("2001:db8:d::"), "forward", "web"},
          {"not to a VIP", Ipv4{.destination = "10.1.1.1"}.With(Tcp{}), "punt", ""},
          {"not to a VIP, IPv6", Ipv6{.destination = "2001:db8:10::99"}.With(Tcp{}), "punt", ""},
          {"before the port", Ipv4{}.With(Tcp{.destination_port = 81}), "drop access_denied", ""},
          {"before the protocol", Ipv4{.protocol = 47}.Around({1}), "drop access_denied", ""},
          {"malformed is judged before", Ipv4{.checksum = uint16_t{1}}.With(Tcp{}),
           "drop malformed", ""},
          {"so is a wrong ICMP checksum", Ipv4{}.With(Icmp{.checksum = uint16_t{1}}),
           "drop malformed", ""},
          {"echo", Ipv4{}.With(Icmp{}), "drop access_denied", ""},
          {"echo, IPv6", Ipv6{}.With(Icmpv6{}), "drop access_denied", ""},
          {"an ICMP error", Ipv4{}.With(Icmp{.type = 3, .rest = 0}, quote), "drop access_denied",
           ""},
          {"a later fragment", Ipv4{.dont_fragment = false, .fragment_offset = 9}.Around({1}),
           "drop access_denied", ""},
      },
      snapshot);
}

// Who is denied opens nothing and takes nothing away.
TEST(Access, IsAskedForEveryPacket) {
  const auto open = MakeSnapshot(Services());
  const auto closed =
      MakeSnapshot(Services(), {.version = 2, .access = {{"0.0.0.0/0", Access::kDeny}}});
  Path path(open);
  EXPECT_EQ(path.Send(Framed(Tcp4(80))).flow(), "new");
  path.Use(closed);
  const Outcome denied = path.Send(Framed(Tcp4(80)));
  EXPECT_EQ(denied.text(), "drop access_denied");
  EXPECT_EQ(denied.flow(), "none");
  EXPECT_EQ(path.Send(Framed(Tcp6(80))).text(), "forward") << "IPv4 alone is denied";
  path.Use(open);
  EXPECT_EQ(path.Send(Framed(Tcp4(80))).flow(), "hit");
}

}  // namespace
}  // namespace guideway
