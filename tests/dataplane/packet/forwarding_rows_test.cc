// What is sent to a backend, byte for byte: every tunnel, in and around either family, by RFC 2003,
// RFC 2473, RFC 2784, draft-ietf-intarea-gue, RFC 7348 and RFC 6040.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

constexpr const char* kAll4 = "198.51.100.77";
constexpr const char* kAll6 = "2001:db8:10::77";

// A packet from a client and what the outer header is to say because of it.
struct Row {
  const char* what;
  Bytes packet;
  uint8_t tos = 0;
  bool dont_fragment = true;
};

// In this order: later fragments follow their first.
std::vector<Row> Rows() {
  // The checksum of the packet as long with zeros in its place.
  const Bytes sums_to_zero = Slice(Ipv4{}.With(Udp{}, {0, 0}), 26, 2);
  const Bytes quote4 =
      Ipv4{.source = kVip4, .destination = kClient4}.With(Tcp{.source_port = 80}, Counting(9));
  const Bytes quote6 =
      Ipv6{.source = kVip6, .destination = kClient6}.With(Tcp{.source_port = 80}, Counting(9));
  const Bytes datagram =
      Slice(Ipv4{.destination = kVip4}.With(Udp{.source_port = 9}, Counting(101)), 20);
  const Bytes datagram6 = Slice(Ipv6{}.With(Udp{.source_port = 9}, Counting(101)), 40);
  const auto fragments = FragmentsOf(Ipv4{.protocol = 17}, datagram, {48, 96});
  Extension on_its_way = ExtensionHeader(43, 2);
  on_its_way.rest[2] = 1;  // segments left
  const auto of_tcp = FragmentsOf(Ipv4{.identification = 9}, Tcp{}.Around(Counting(60)), {48});
  const auto fragments6 = FragmentsOf(Ipv6{.next_header = 17}, datagram6, {48, 96});
  return {
      {"TCP", Ipv4{}.With(Tcp{}, Counting(64))},
      {"TCP, an odd length", Ipv4{}.With(Tcp{}, Counting(63))},
      {"TCP without payload", Ipv4{}.With(Tcp{.flags = kSyn})},
      {"TCP without DF", Ipv4{.dont_fragment = false}.With(Tcp{}, {1}), 0, false},
      {"TCP without DF, the next number", Ipv4{.dont_fragment = false}.With(Tcp{}, {1}), 0, false},
      {"an inner TTL of 1 stays", Ipv4{.ttl = 1}.With(Tcp{}, {1})},
      {"IP options stay inside", Ipv4{.options = Counting(12)}.With(Tcp{}, {1})},
      {"a header as long as that of IPv6", Ipv4{.options = Counting(20)}.With(Tcp{}, {1})},
      {"UDP", Ipv4{}.With(Udp{}, Counting(33))},
      {"UDP without a checksum", Ipv4{}.With(Udp{.checksum = 0}, Counting(33))},
      {"UDP whose checksum is 0, and so sent as 0xffff", Ipv4{}.With(Udp{}, sums_to_zero)},
      {"UDP shorter than the packet",
       Ipv4{}.With(Udp{.length = uint16_t{12}, .checksum = 0x1111}, Counting(33))},
      {"DSCP, no ECN", Ipv4{.tos = 0xb8}.With(Tcp{}), 0xb8},
      {"ECT(1)", Ipv4{.tos = 0xb9}.With(Tcp{}), 0xb9},
      {"ECT(0)", Ipv4{.tos = 0x02}.With(Tcp{}), 0x02},
      {"congestion experienced", Ipv4{.tos = 0xff}.With(Tcp{}), 0xff},
      {"GRE", Ipv4{.destination = kAll4, .protocol = 47}.Around(Counting(21))},
      {"a protocol of no name, no bytes", Ipv4{.destination = kAll4, .protocol = 253}.Around({})},
      {"echo reply, for a service of all protocols",
       Ipv4{.destination = kAll4}.With(Icmp{.type = 0}, Counting(13))},
      {"timestamp request", Ipv4{.destination = kAll4}.With(Icmp{.type = 13}, Counting(12))},
      {"ICMP error about a connection", Ipv4{}.With(Icmp{.type = 3, .code = 1, .rest = 0}, quote4)},
      {"the first of three fragments", fragments[0], 0, false},
      {"the second", fragments[1], 0, false},
      {"the third", fragments[2], 0, false},
      {"the first of two of TCP: its checksum goes over both", of_tcp[0], 0, false},
      {"the second", of_tcp[1], 0, false},

      {"TCP", Ipv6{}.With(Tcp{}, Counting(64))},
      {"TCP, an odd length", Ipv6{}.With(Tcp{}, Counting(63))},
      {"the inner flow label and hop limit are the client's",
       Ipv6{.flow_label = 0xabcde, .hop_limit = 1}.With(Tcp{})},
      {"UDP", Ipv6{}.With(Udp{}, Counting(33))},
      {"UDP without a checksum", Ipv6{}.With(Udp{.checksum = 0}, Counting(33))},
      {"DSCP, no ECN", Ipv6{.traffic_class = 0xb8}.With(Tcp{}), 0xb8},
      {"ECT(1)", Ipv6{.traffic_class = 0xb9}.With(Tcp{}), 0xb9},
      {"ECT(0)", Ipv6{.traffic_class = 0x02}.With(Tcp{}), 0x02},
      {"congestion experienced", Ipv6{.traffic_class = 0x07}.With(Tcp{}), 0x07},
      {"extension headers",
       Ipv6{.extensions = {ExtensionHeader(0), AuthenticationHeader()}}.With(Tcp{}, Counting(5))},
      {"a routing header", Ipv6{.extensions = {ExtensionHeader(43, 2)}}.With(Udp{}, Counting(5))},
      {"a routing header on its way: the checksum is for where it ends",
       Ipv6{.extensions = {on_its_way}}.Around(
           Summed(kClient6, "2001:db8:ffff::1", Tcp{}, Counting(5)))},
      {"a fragment header around a whole packet",
       Ipv6{.extensions = {FragmentHeader(0, false)}}.With(Udp{}, Counting(5))},
      {"ESP", Ipv6{.destination = kAll6, .next_header = 50}.Around(Counting(21))},
      {"no next header", Ipv6{.destination = kAll6, .next_header = 59}.Around({})},
      {"echo reply, for a service of all protocols",
       Ipv6{.destination = kAll6}.With(Icmpv6{.type = 129}, Counting(13))},
      {"ICMP error about a connection", Ipv6{}.With(Icmpv6{.type = 1, .rest = 0}, quote6)},
      {"the first of three fragments", fragments6[0]},
      {"the second", fragments6[1]},
      {"the third", fragments6[2]},
  };
}

TEST(ForwardingRows, EveryTunnelInAndAroundEitherFamily) {
  for (const Forwarding forwarding : kTunnels) {
    for (const char* backend : {kBackend4, kBackend6}) {
      Path path(MakeSnapshot(Services(forwarding, backend)));
      uint16_t identification = 0;
      for (const Row& row : Rows()) {
        const std::string what =
            absl::StrCat(std::string(ForwardingName(forwarding)), " to ", backend, ": ", row.what,
                         row.packet[0] >> 4 == 6 ? " (IPv6)" : " (IPv4)");
        const Outcome outcome = path.Send(Framed(row.packet));
        EXPECT_EQ(outcome.text(), "forward") << what;
        ASSERT_EQ(outcome.frames.size(), 1u) << what;
        OuterLook look = {.tos = row.tos, .dont_fragment = row.dont_fragment};
        if (!row.dont_fragment && backend == kBackend4) look.identification = identification++;
        const Bytes sent = Unframed(outcome.frame());
        EXPECT_EQ(Hex(outcome.frame()),
                  Hex(Sent(Tunnelled(forwarding, backend, row.packet, sent, look))))
            << what;
      }
    }
  }
}

// Of `direct` nothing changes but Ethernet.
TEST(ForwardingRows, Direct) {
  Path path(MakeSnapshot(Services(Forwarding::kDirect, kBackend4)));
  for (const Row& row : Rows()) {
    const Outcome outcome = path.Send(Framed(row.packet));
    EXPECT_EQ(outcome.text(), "forward") << row.what;
    EXPECT_EQ(Hex(outcome.frame()), Hex(Sent(row.packet))) << row.what;
  }
}

TEST(ForwardingRows, VlanTagsStay) {
  const std::vector<std::vector<Vlan>> rows = {
      {{0x8100, 0xe064}}, {{0x88a8, 5}, {0x8100, 7}}, {{0x8100, 5}, {0x8100, 7}}, {{0x8100, 0}}};
  const Bytes packet = Ipv4{}.With(Tcp{}, {1, 2, 3});
  for (const auto& tags : rows) {
    for (const char* backend : {kBackend4, kBackend6}) {
      for (const Forwarding forwarding : kTunnels) {
        Path path(MakeSnapshot(Services(forwarding, backend)));
        const Bytes frame = path.Send(Framed(packet, tags)).frame();
        const Bytes sent = Slice(frame, 14 + 4 * tags.size());
        EXPECT_EQ(Hex(frame), Hex(Sent(Tunnelled(forwarding, backend, packet, sent), tags)));
      }
    }
    Path direct(MakeSnapshot(Services(Forwarding::kDirect)));
    EXPECT_EQ(Hex(direct.Send(Framed(packet, tags)).frame()), Hex(Sent(packet, tags)));
    Path nat(MakeSnapshot(Services(Forwarding::kNat)));
    EXPECT_EQ(Hex(nat.Send(Framed(packet, tags)).frame()),
              Hex(Sent(Ipv4{.destination = kBackend4}.With(Tcp{}, {1, 2, 3}), tags)));
    const Bytes reply = nat.Send(Framed(Ipv4{}.With(Icmp{}), tags)).frame();
    EXPECT_EQ(Hex(Slice(reply, 0, 14 + 4 * tags.size())),
              Hex(Slice(Sent(packet, tags), 0, 14 + 4 * tags.size())));
  }
}

// Flow label and source port: the same for all of a connection, others for others.
TEST(ForwardingRows, EntropyComesFromTheConnection) {
  struct {
    Forwarding forwarding;
    const char* backend;
    size_t at;  // in the outer packet
  } const rows[] = {{Forwarding::kIpip, kBackend6, 2},  {Forwarding::kGre, kBackend6, 2},
                    {Forwarding::kGue, kBackend6, 2},   {Forwarding::kGue, kBackend4, 20},
                    {Forwarding::kGue, kBackend6, 40},  {Forwarding::kVxlan, kBackend4, 20},
                    {Forwarding::kVxlan, kBackend6, 40}};
  for (const auto& row : rows) {
    Path path(MakeSnapshot(Services(row.forwarding, row.backend)));
    std::set<uint16_t> seen;
    for (uint16_t port = 1; port <= 200; ++port) {
      std::set<uint16_t> of_one;
      for (const Bytes& payload : {Bytes{}, Bytes{1}, Bytes(100, 2)}) {
        const Bytes frame =
            path.Send(Framed(Ipv4{}.With(Tcp{.source_port = port}, payload))).frame();
        of_one.insert(Get16(frame, 14 + row.at));
      }
      EXPECT_EQ(of_one.size(), 1u);
      if (row.at != 2) {
        EXPECT_GE(*of_one.begin(), 49152);
      }
      seen.insert(of_one.begin(), of_one.end());
    }
    EXPECT_GT(seen.size(), 190u);
    EXPECT_GT(*seen.rbegin(), 63000) << "of all values that there are";
  }
}

TEST(ForwardingRows, SpreadSourcesOfIpipAndGre) {
  struct {
    const char* source;
    const char* backend;
    size_t at_least;  // addresses of 512 connections
  } const rows[] = {
      {"10.99.0.0/16", kBackend4, 500},     {"10.99.4.0/24", kBackend4, 200},
      {"10.99.4.0/25", kBackend4, 120},     {"10.99.4.240/28", kBackend4, 16},
      {"10.99.4.6/31", kBackend4, 2},       {"10.0.0.0/8", kBackend4, 500},
      {"10.99.4.6/32", kBackend4, 1},       {"2001:db8:5::/48", kBackend6, 500},
      {"2001:db8:5::/64", kBackend6, 500},  {"2001:db8:5::80/121", kBackend6, 120},
      {"2001:db8:5::7e/127", kBackend6, 2}, {"2001:db8:5::7/128", kBackend6, 1},
  };
  for (const Forwarding forwarding : {Forwarding::kIpip, Forwarding::kGre}) {
    for (const auto& row : rows) {
      Path path(MakeSnapshot(Services(forwarding, row.backend),
                             {.tunnel_source_ipv4 = row.source, .tunnel_source_ipv6 = row.source}));
      const bool v6 = row.backend == kBackend6;
      const Prefix prefix = Prefix::Parse(row.source).value();
      std::map<IpAddress, int> seen;
      for (uint16_t port = 1; port <= 512; ++port) {
        IpAddress of_one;
        for (const Bytes& payload : {Bytes{}, Bytes{1, 2}}) {
          const Tcp tcp = {.source_port = port};
          const Bytes packet =
              port % 2 == 0 ? Ipv4{}.With(tcp, payload) : Ipv6{}.With(tcp, payload);
          const Bytes sent = Unframed(path.Send(Framed(packet)).frame());
          const IpAddress source = v6 ? IpAddress::V6(&sent.at(8)) : IpAddress::V4(&sent.at(12));
          EXPECT_TRUE(prefix.Contains(source)) << source.ToString();
          EXPECT_TRUE(of_one.is_none() || of_one == source) << "one connection, one source";
          of_one = source;
          if (!v6) {
            EXPECT_EQ(Checksum(Slice(sent, 0, 20)), 0);
          }
          EXPECT_EQ(Hex(Slice(sent, OuterSizeOf(forwarding, v6))), Hex(packet));
        }
        ++seen[of_one];
      }
      EXPECT_GE(seen.size(), row.at_least) << row.source;
      const double fair = 512.0 / static_cast<double>(seen.size());
      for (const auto& [address, n] : seen) {
        EXPECT_LT(n, 8 + 2 * fair) << address.ToString() << " of " << row.source;
      }
    }
  }
}

// A checksum over IPv6 is of all the bytes, whoever computes it: payloads that make every sum once.
TEST(ForwardingRows, UdpChecksumOverIpv6ForEverySum) {
  for (const Forwarding forwarding : {Forwarding::kGue, Forwarding::kVxlan}) {
    Path path(MakeSnapshot(Services(forwarding, kBackend6)));
    for (uint32_t word = 0; word < 0x10000; word += 13) {
      const Bytes payload = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word), 3};
      for (const bool v6 : {false, true}) {
        const Bytes packet = v6 ? Ipv6{}.With(Udp{}, payload) : Ipv4{}.With(Udp{}, payload);
        const Bytes sent = Unframed(path.Send(Framed(packet)).frame());
        ASSERT_EQ(Hex(sent), Hex(Tunnelled(forwarding, kBackend6, packet, sent))) << word;
        EXPECT_NE(Get16(sent, 46), 0) << "0 would be «no checksum»";
      }
    }
  }
}

// Where the sum says 0 the outer checksum is 0xffff: some payload makes it so.
TEST(ForwardingRows, UdpChecksumOverIpv6IsNeverZero) {
  Path path(MakeSnapshot(Services(Forwarding::kGue, kBackend6)));
  bool seen = false;
  for (uint32_t word = 0; word < 0x10000 && !seen; ++word) {
    // Of a packet without a checksum of its own, so that the sum of all varies.
    const Bytes payload = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
    const Bytes packet = Ipv4{}.With(Udp{.checksum = 0}, payload);
    const Bytes sent = Unframed(path.Send(Framed(packet)).frame());
    ASSERT_NE(Get16(sent, 46), 0);
    seen = Get16(sent, 46) == 0xffff;
    if (seen) {
      EXPECT_EQ(Hex(sent), Hex(Tunnelled(Forwarding::kGue, kBackend6, packet, sent)));
    }
  }
  EXPECT_TRUE(seen);
}

TEST(ForwardingRows, NoRouteToTheBackend) {
  for (const Forwarding forwarding : {Forwarding::kIpip, Forwarding::kGre, Forwarding::kGue,
                                      Forwarding::kVxlan, Forwarding::kDirect, Forwarding::kNat}) {
    Path path(
        MakeSnapshot({{.backends = {{.name = "b", .address = kBackend4, .has_next_hop = false}},
                       .forwarding = forwarding}}));
    const Outcome outcome = path.Send(Framed(Ipv4{}.With(Tcp{})));
    EXPECT_EQ(outcome.text(), "drop no_next_hop");
    EXPECT_EQ(outcome.backend, "b");
    EXPECT_EQ(outcome.service, "web");
  }
}

}  // namespace
}  // namespace guideway
