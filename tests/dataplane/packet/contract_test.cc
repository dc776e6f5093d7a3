// What the plain model (model_test.cc) found out about the packet path, one case each, smaller than
// random traffic shows it.

#include <gtest/gtest.h>

#include "tests/support/packet_path.h"
#include "tests/support/plain_bytes.h"
#include "tests/support/test_snapshot.h"

namespace guideway::testing {
namespace {

constexpr char kClient[] = "203.0.113.7";
constexpr char kVip[] = "198.51.100.10";

// An ICMPv4 message with its checksum.
Bytes Icmp(uint8_t type, uint8_t code, uint32_t rest, const Bytes& data) {
  Bytes icmp = {type, code, 0, 0};
  Add32(icmp, rest);
  Add(icmp, data);
  Put16(icmp, 2, ChecksumOfSum(Sum(icmp)));
  return icmp;
}

// --- nat ---

std::vector<TestService> NatService() {
  return {{.vips = {kVip},
           .protocol = Protocol::kUdp,
           .ports = {{53, 53}},
           .backends = {{.name = "web-1", .address = "10.0.0.11", .port = 1053}},
           .forwarding = Forwarding::kNat}};
}

TEST(ContractTest, LaterFragmentsOfANatBackendsAnswerAreHits) {
  Path path(MakeSnapshot(NatService()));
  const Bytes udp =
      Udp{.source_port = 1053, .destination_port = 40000, .length = 40}.Around(Bytes(24));
  const Ipv4 ip = {.source = "10.0.0.11",
                   .destination = kClient,
                   .protocol = 17,
                   .dont_fragment = false,
                   .more_fragments = true};
  EXPECT_EQ(path.Send(Ethernet{}.Around(ip.Around(udp))).flow(), "hit");
  Ipv4 later = ip;
  later.more_fragments = false;
  later.fragment_offset = 4;
  const Outcome outcome = path.Send(Ethernet{}.Around(later.Around(Bytes(8))));
  EXPECT_EQ(outcome.text(), "forward");
  EXPECT_EQ(outcome.flow(), "hit");
}

// --- answers ---

TEST(ContractTest, EchoReplyOfNothingButZerosHasAChecksumThatReceiversTake) {
  Path path(MakeSnapshot({TestService{}}));
  const Bytes request = Ethernet{}.Around(Ipv4{.protocol = 1}.Around(Icmp(8, 0, 0, Bytes(10))));
  const Outcome outcome = path.Send(request);
  ASSERT_EQ(outcome.text(), "reply");
  EXPECT_EQ(From(outcome.frame(), 34), Icmp(0, 0, 0, Bytes(10)));
  EXPECT_EQ(Get16(outcome.frame(), 36), 0xffffu);
}

// --- quic ---

TEST(ContractTest, NoConnectionIdIsReadBehindTheEndOfUdp) {
  const QuicLb::Config config = {.id = 1, .server_id_length = 1, .nonce_length = 4};
  const auto quic = std::make_shared<const QuicLb>(
      QuicLb::Build({config}, {{std::string("a"), 0u}, {std::string("b"), 1u}}).value());
  const std::vector<TestService> services = {
      {.protocol = Protocol::kUdp,
       .ports = {{443, 443}},
       .backends = {{"web-1", "10.0.0.11"},
                    {"web-2", "10.0.0.12", BackendState::kDrain}},  // the hash never names it
       .quic = quic}};
  Path path(MakeSnapshot(services));
  const Bytes payload = {0x40, 1 << 5, 'b', 1, 2, 3, 4};
  const auto send = [&](uint16_t udp_length) {
    const Udp udp = {.destination_port = 443, .length = udp_length};
    return path.Send(Ethernet{}.Around(Ipv4{.protocol = 17}.Around(udp.Around(payload)))).backend;
  };
  EXPECT_EQ(send(8 + 7), "web-2");
  EXPECT_EQ(send(8 + 6), "web-1");
  EXPECT_EQ(send(8), "web-1");
}

// --- fragments ---

// An IPv6 packet from and to fixed addresses.
Bytes Ipv6Frame(uint8_t next, const Bytes& payload) {
  Bytes frame = Ethernet{.type = 0x86dd}.Around({});
  Add32(frame, 6u << 28);
  Add16(frame, static_cast<uint32_t>(payload.size()));
  Add8(frame, next);
  Add8(frame, 64);
  Add(frame, BytesOf(IpAddress::Parse("2001:db8::7").value()));
  Add(frame, BytesOf(IpAddress::Parse("2001:db8:100::10").value()));
  Add(frame, payload);
  return frame;
}
Bytes FragmentHeader(uint8_t next, uint16_t offset_and_more, uint32_t identification) {
  Bytes header = {next, 0};
  Add16(header, offset_and_more);
  Add32(header, identification);
  return header;
}

TEST(ContractTest, AFragmentHeaderInAFragmentDoesNotMakeItWhole) {
  Path path(MakeSnapshot({{.vips = {"2001:db8:100::10"},
                           .protocol = Protocol::kUdp,
                           .ports = {{53, 53}},
                           .backends = {{"web-1", "2001:db8:2::1"}}}}));
  // UDP says more than this first fragment has.
  Bytes first = FragmentHeader(44, 1, 77);
  Add(first, FragmentHeader(17, 0, 99));
  Add(first, Udp{.length = 32}.Around(Bytes(8)));
  EXPECT_EQ(path.Send(Ipv6Frame(44, first)).text(), "forward");
  Bytes later = FragmentHeader(44, 24, 77);
  Add(later, Bytes(16));
  EXPECT_EQ(path.Send(Ipv6Frame(44, later)).text(), "forward") << "where the first went";
}

// --- ICMP errors ---

// IPIP from the tunnel's source to the first backend.
Bytes OuterPacket(const char* source = "192.0.2.1") {
  return Ipv4{.source = source, .destination = "10.0.0.11", .protocol = 4}.Around(Bytes(20));
}
Bytes FragmentationNeeded(const char* to, const Bytes& quoted, uint16_t mtu) {
  return Ethernet{}.Around(Ipv4{.source = "10.0.0.254", .destination = to, .protocol = 1}.Around(
      Icmp(3, 4, mtu, quoted)));
}
Bytes LargePacket(uint16_t port = 40000) {
  return Ethernet{}.Around(Ipv4{}.Around(Tcp{.source_port = port}.Around(Bytes(1000))));
}

TEST(ContractTest, PathMtusAreLearnedFromWhatComesToTheTunnelsSourceAlone) {
  Path path(MakeSnapshot({TestService{}}));
  path.Send(FragmentationNeeded("192.0.2.2", OuterPacket(), 700));
  EXPECT_EQ(path.Send(LargePacket()).text(), "forward") << "came to another address";
  path.Send(FragmentationNeeded("192.0.2.1", OuterPacket(), 700));
  EXPECT_EQ(path.Send(LargePacket()).text(), "reply");
}

TEST(ContractTest, AnIcmpErrorQuotesAPacketOfItsFamily) {
  Path path(MakeSnapshot({{.vips = {kVip}, .backends = {{"web-1", "2001:db8:2::1"}}}}));
  Bytes outer;
  Add32(outer, 6u << 28);
  Add32(outer, 4 << 8 | 64);
  Add(outer, BytesOf(IpAddress::Parse("2001:db8:1::1").value()));
  Add(outer, BytesOf(IpAddress::Parse("2001:db8:2::1").value()));
  path.Send(FragmentationNeeded("192.0.2.1", outer, 700));
  EXPECT_EQ(path.Send(Ethernet{}.Around(Ipv4{}.Around(Tcp{}.Around(Bytes(1400))))).text(),
            "forward");
  EXPECT_EQ(path.Send(FragmentationNeeded(kVip, outer, 700)).text(), "drop malformed");
}

TEST(ContractTest, AQuotedPacketEndsWhereItSays) {
  Path path(MakeSnapshot({TestService{}}));
  const Bytes answer = Tcp{.source_port = 80, .destination_port = 40000}.Around({});
  const auto send = [&](uint16_t length) {
    const Ipv4 quoted = {.source = kVip, .destination = kClient, .total_length = length};
    return path.Send(FragmentationNeeded(kVip, quoted.Around(answer), 700)).text();
  };
  EXPECT_EQ(send(40), "forward");
  EXPECT_EQ(send(28), "forward") << "the least that RFC 792 asks for";
  EXPECT_EQ(send(27), "drop malformed") << "what follows is not of it";
}

TEST(ContractTest, NatCorrectsNothingBehindTheQuotedPacket) {
  std::vector<TestService> services = NatService();
  services[0].protocol = Protocol::kTcp;
  Path path(MakeSnapshot(services));
  const Bytes answer = Tcp{.source_port = 53, .destination_port = 40000}.Around({});
  // Eight bytes of TCP; what follows is something else, perhaps an extension (RFC 4884).
  const Ipv4 quoted = {.source = kVip, .destination = kClient, .total_length = 28};
  const Bytes packet = quoted.Around(answer);
  const Outcome outcome = path.Send(FragmentationNeeded(kVip, packet, 700));
  ASSERT_EQ(outcome.text(), "forward");
  const Bytes sent = From(outcome.frame(), 14 + 20);
  EXPECT_TRUE(IsRight(Sum(sent)));
  EXPECT_EQ(From(sent, 8 + 28), From(packet, 28));
}

TEST(ContractTest, APathMtuCountsForThePacketsBehindIt) {
  Path path(MakeSnapshot({TestService{}}));
  const std::vector<Outcome> outcomes = path.Send(std::vector<Bytes>{
      LargePacket(), FragmentationNeeded("192.0.2.1", OuterPacket(), 700), LargePacket()});
  EXPECT_EQ(outcomes[0].text(), "forward") << "came before";
  EXPECT_EQ(outcomes[1].text(), "punt");
  EXPECT_EQ(outcomes[2].text(), "reply");
}

TEST(ContractTest, APathMtuIsLearnedFromOuterPacketsAlone) {
  for (const uint8_t protocol : {4, 41, 47, 17, 6, 1, 50}) {
    Path path(MakeSnapshot({TestService{}}));
    const Bytes quoted =
        Ipv4{.source = "192.0.2.1", .destination = "10.0.0.11", .protocol = protocol}.Around(
            Udp{.source_port = 49152}.Around({}));
    path.Send(FragmentationNeeded("192.0.2.1", quoted, 700));
    const bool is_outer = protocol == 4 || protocol == 41 || protocol == 47 || protocol == 17;
    EXPECT_EQ(path.Send(LargePacket()).text(), is_outer ? "reply" : "forward") << int{protocol};
  }
}

TEST(ContractTest, APathMtuIsNotLearnedFromUdpThatNoTunnelSends) {
  Path path(MakeSnapshot({{.forwarding = Forwarding::kGue}}));
  const auto quoting = [](uint16_t source_port) {
    const Bytes quoted =
        Ipv4{.source = "192.0.2.1", .destination = "10.0.0.11", .protocol = 17}.Around(
            Udp{.source_port = source_port, .destination_port = 6080}.Around({}));
    return FragmentationNeeded("192.0.2.1", quoted, 700);
  };
  path.Send(quoting(49151));
  EXPECT_EQ(path.Send(LargePacket()).text(), "forward");
  path.Send(quoting(65535));
  EXPECT_EQ(path.Send(LargePacket()).text(), "reply");
}

// However many pings there are, senders of large packets are told.
TEST(ContractTest, ErrorsComeBeforeEchoReplies) {
  Path path(MakeSnapshot({TestService{}}, {.mtu = 1000, .replies_per_second = 10}));
  const Bytes ping =
      Ethernet{}.Around(Ipv4{.protocol = 1}.Around(Icmp(8, 0, 0x00070001, {1, 2, 3, 4})));
  const auto count = [&](const Bytes& frame) {
    int replies = 0;
    for (int i = 0; i < 100; ++i) replies += path.Send(frame).text() == "reply";
    return replies;
  };
  EXPECT_EQ(count(ping), 10);
  EXPECT_EQ(count(LargePacket()), 10) << "of their own";
  path.now += kTicksPerSecond;
  EXPECT_EQ(count(ping), 0) << "the errors have used up this second";
  EXPECT_EQ(count(LargePacket()), 10);
}

// --- fragmentation ---

TEST(ContractTest, TheLastFragmentTakesAllThatFits) {
  // Behind the outer header fit 482 bytes, or 480 of a fragment that is not the last.
  TestOptions options = {.mtu = 20 + 482};
  Path path(MakeSnapshot({TestService{}}, options));
  const Ipv4 ip = {.dont_fragment = false};
  const auto frames = [&](size_t size) {
    return path.Send(Ethernet{}.Around(ip.Around(Tcp{}.Around(Bytes(size - 40))))).frames.size();
  };
  EXPECT_EQ(frames(482), 1u);
  EXPECT_EQ(frames(483), 2u);
  EXPECT_EQ(frames(480 + 482), 2u);
  EXPECT_EQ(frames(480 + 483), 3u);
}

TEST(ContractTest, WhatIsTooLongForAnyOuterPacketIsNotAnsweredWithoutDf) {
  Path path(MakeSnapshot({{.forwarding = Forwarding::kGre}}));
  const auto outcome = [&](size_t size, bool dont_fragment) {
    const Ipv4 ip = {.dont_fragment = dont_fragment};
    return path.Send(Ethernet{}.Around(ip.Around(Tcp{}.Around(Bytes(size - 40))))).text();
  };
  EXPECT_EQ(outcome(65535 - 24, false), "forward");
  EXPECT_EQ(outcome(65535 - 23, false), "drop too_big");
  EXPECT_EQ(outcome(65535 - 23, true), "reply");
}

}  // namespace
}  // namespace guideway::testing
