#include "maglev/envelope.h"

#include <gtest/gtest.h>

#include "maglev/headers.h"
#include "maglev/snapshot.h"

namespace guideway {
namespace {

Service ServiceOf(Forwarding forwarding) {
  Service service;
  service.forwarding = forwarding;
  service.tunnel = {.port = 4789, .vni = 0x123456, .inner_mac = {{2, 0, 0, 0, 0, 0x77}}};
  return service;
}

Backend BackendAt(const char* address, const char* source) {
  Backend backend;
  backend.address = IpAddress::Parse(address).value();
  backend.tunnel_source = Prefix::Parse(source).value();
  backend.next_hop = {.interface = 3,
                      .mtu = 1500,
                      .destination = {{2, 0, 0, 0, 0, 0xfe}},
                      .source = {{2, 0, 0, 0, 0, 1}}};
  return backend;
}

Backend V4() { return BackendAt("10.0.0.11", "192.0.2.1"); }
Backend V6() { return BackendAt("2001:db8:3::11", "2001:db8:1::1"); }

std::vector<uint8_t> BytesOf(const Envelope& envelope) {
  return {envelope.bytes.begin(), envelope.bytes.begin() + envelope.facts.size};
}

TEST(Envelope, HasTheSizeOfItsHeaders) {
  const std::pair<Forwarding, std::pair<int, int>> rows[] = {
      {Forwarding::kIpip, {34, 54}},   {Forwarding::kGre, {38, 58}},
      {Forwarding::kGue, {46, 66}},    {Forwarding::kVxlan, {64, 84}},
      {Forwarding::kDirect, {14, 14}}, {Forwarding::kNat, {14, 14}}};
  for (const auto& [forwarding, sizes] : rows) {
    SCOPED_TRACE(std::string(ForwardingName(forwarding)));
    const Service service = ServiceOf(forwarding);
    EXPECT_EQ(MakeEnvelope(service, V4()).facts.size, sizes.first);
    EXPECT_EQ(MakeEnvelope(service, V6()).facts.size, sizes.second);
    EXPECT_EQ(MakeEnvelope(service, V6()).facts.is_ipv6, IsTunnel(forwarding));
  }
}

TEST(Envelope, IsTheBytesInFront) {
  const Envelope envelope = MakeEnvelope(ServiceOf(Forwarding::kVxlan), V4());
  const std::vector<uint8_t> expected = {
      2,    0, 0,    0,    0,    0xfe, 2,    0, 0,  0,  0, 1, 8,   0,  // Ethernet
      0x45, 0, 0,    0,    0,    0,    0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 10, 0, 0, 11,  // IPv4
      0,    0, 0x12, 0xb5, 0,    0,    0,    0,                                            // UDP
      8,    0, 0,    0,    0x12, 0x34, 0x56, 0,                                            // VXLAN
      2,    0, 0,    0,    0,    0x77, 2,    0, 0,  0,  0, 1, 8,   0};  // the inner Ethernet
  EXPECT_EQ(BytesOf(envelope), expected);
  EXPECT_EQ(envelope.facts.interface, 3);
  EXPECT_EQ(envelope.facts.mtu, 1500);
  EXPECT_TRUE(envelope.facts.has_udp);
  EXPECT_FALSE(envelope.facts.spreads_source);
}

TEST(Envelope, OfNoNextHopNothingFits) {
  Backend backend = V4();
  backend.next_hop = {};
  EXPECT_EQ(MakeEnvelope(ServiceOf(Forwarding::kIpip), backend).facts.mtu, 0);
}

TEST(Envelope, SpreadsWhereTheSourceIsAPrefix) {
  const Backend backend = BackendAt("10.0.0.11", "192.0.2.0/24");
  EXPECT_TRUE(MakeEnvelope(ServiceOf(Forwarding::kIpip), backend).facts.spreads_source);
  EXPECT_FALSE(MakeEnvelope(ServiceOf(Forwarding::kDirect), backend).facts.spreads_source);
}

// For a packet of the other version: the difference of the sums is that of the bytes.
TEST(Envelope, AdaptsToTheOtherVersion) {
  for (Forwarding forwarding :
       {Forwarding::kIpip, Forwarding::kGre, Forwarding::kGue, Forwarding::kVxlan}) {
    for (const bool is_v6 : {false, true}) {
      SCOPED_TRACE(std::string(ForwardingName(forwarding)) + (is_v6 ? " over IPv6" : " over IPv4"));
      const Service service = ServiceOf(forwarding);
      const Envelope envelope = MakeEnvelope(service, is_v6 ? V6() : V4());
      Envelope adapted = envelope;
      uint8_t* ip = adapted.bytes.data() + sizeof(EthernetHeader);
      const uint32_t difference = AdaptEnvelope(envelope.facts, is_v6 ? 4 : 6, ip);
      EXPECT_NE(BytesOf(adapted), BytesOf(envelope));
      // What a checksum covers: of IPv4 its header, of UDP over IPv6 all behind the outer header.
      const size_t first = is_v6 ? sizeof(Ipv6Header) : 0;
      const size_t end = is_v6 ? envelope.facts.outer_size() : sizeof(Ipv4Header);
      if (is_v6 && !envelope.facts.has_udp) continue;
      const uint8_t* before = envelope.bytes.data() + sizeof(EthernetHeader);
      const uint32_t was = FoldedSum(SumOf(before + first, end - first));
      const uint32_t is = FoldedSum(SumOf(ip + first, end - first));
      EXPECT_EQ(FoldedSum(was + difference), is);
    }
  }
}

}  // namespace
}  // namespace guideway
