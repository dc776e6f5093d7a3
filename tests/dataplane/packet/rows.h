// What the tables of packets in this directory share: frames as they come and as they are to leave,
// and the services of both families that most rows are about.
#ifndef GUIDEWAY_TESTS_DATAPLANE_PACKET_ROWS_H_
#define GUIDEWAY_TESTS_DATAPLANE_PACKET_ROWS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/packet_builder.h"
#include "tests/support/packet_path.h"
#include "tests/support/test_snapshot.h"

namespace guideway::testing {

inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kAck = 0x10;
inline constexpr const char* kClient4 = "203.0.113.7";
inline constexpr const char* kVip4 = "198.51.100.10";
inline constexpr const char* kBackend4 = "10.0.0.11";
inline constexpr const char* kClient6 = "2001:db8:c::7";
inline constexpr const char* kVip6 = "2001:db8:10::10";
inline constexpr const char* kBackend6 = "2001:db8:b::11";

// A frame as it leaves by the only interface there is, with the tags it came with.
inline Bytes Sent(const Bytes& ip_packet, const std::vector<Vlan>& tags = {}) {
  return Ethernet{.destination = "02:00:00:00:00:fe",
                  .source = "02:00:00:00:00:01",
                  .type = static_cast<uint16_t>(ip_packet.at(0) >> 4 == 6 ? 0x86dd : 0x0800),
                  .tags = tags}
      .Around(ip_packet);
}

// The IP packet of a frame without tags.
inline Bytes Unframed(const Bytes& frame) { return Slice(frame, 14); }

// «web» (TCP 80), «dns» (UDP 53) and «all» (any protocol) on a VIP of each family, each with one
// backend of the family given.
inline std::vector<TestService> Services(Forwarding forwarding = Forwarding::kIpip,
                                         std::string backend = kBackend4) {
  return {{.name = "web",
           .vips = {kVip4, kVip6},
           .backends = {{"b", backend}},
           .forwarding = forwarding},
          {.name = "dns",
           .vips = {kVip4, kVip6},
           .protocol = Protocol::kUdp,
           .ports = {{53, 53}},
           .backends = {{"b", backend}},
           .forwarding = forwarding},
          {.name = "all",
           .vips = {"198.51.100.77", "2001:db8:10::77"},
           .protocol = Protocol::kAny,
           .backends = {{"b", backend}},
           .forwarding = forwarding}};
}

// The same services, each with `n` backends b0, b1, … in 10.0.0.0/24.
inline std::vector<TestService> ServicesWithBackends(int n,
                                                     Forwarding forwarding = Forwarding::kIpip) {
  std::vector<TestService> services = Services(forwarding);
  for (TestService& service : services) {
    service.backends.clear();
    for (int i = 0; i < n; ++i) {
      service.backends.push_back({absl::StrCat("b", i), absl::StrCat("10.0.0.", 100 + i)});
    }
  }
  return services;
}

// What an outer packet says that a row may choose.
struct OuterLook {
  uint8_t tos = 0;
  bool dont_fragment = true;
  uint16_t identification = 0;
};

// The outer packet around `inner`, to this backend by the tunnels of test_snapshot.h. What comes
// from the hash (a flow label, a source port) is taken from the one that was `sent`.
inline Bytes Tunnelled(Forwarding forwarding, const char* backend, const Bytes& inner,
                       const Bytes& sent, const OuterLook& look = {}) {
  const bool inner_v6 = inner.at(0) >> 4 == 6;
  const uint16_t inner_type = inner_v6 ? 0x86dd : 0x0800;
  const uint8_t inner_protocol = inner_v6 ? 41 : 4;
  const bool outer_v6 = IpAddress::Parse(backend).value().is_v6();
  Ipv4 v4 = {.source = "192.0.2.1",
             .destination = backend,
             .tos = look.tos,
             .ttl = 64,
             .identification = look.identification,
             .dont_fragment = look.dont_fragment};
  Ipv6 v6 = {.source = "2001:db8:1::1",
             .destination = backend,
             .traffic_class = look.tos,
             .hop_limit = 64};
  if (outer_v6) v6.flow_label = (sent.at(1) & 15u) << 16 | Get16(sent, 2);
  const auto around = [&](uint8_t protocol, const Bytes& payload) {
    v4.protocol = v6.next_header = protocol;
    return outer_v6 ? v6.Around(payload) : v4.Around(payload);
  };
  const auto with_udp = [&](uint16_t port, const Bytes& payload) {
    Udp udp = {.source_port = Get16(sent, outer_v6 ? 40 : 20), .destination_port = port};
    if (!outer_v6) udp.checksum = 0;
    return outer_v6 ? v6.With(udp, payload) : v4.With(udp, payload);
  };
  switch (forwarding) {
    case Forwarding::kIpip: return around(inner_protocol, inner);
    case Forwarding::kGre: return around(47, Gre{.protocol = inner_type}.Around(inner));
    case Forwarding::kGue: return with_udp(6080, Gue{.protocol = inner_protocol}.Around(inner));
    case Forwarding::kVxlan:
      return with_udp(4789, Vxlan{}.Around(Ethernet{.destination = "02:00:00:00:00:77",
                                                    .source = "02:00:00:00:00:01",
                                                    .type = inner_type}
                                               .Around(inner)));
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return inner;
}

inline constexpr Forwarding kTunnels[] = {Forwarding::kIpip, Forwarding::kGre, Forwarding::kGue,
                                          Forwarding::kVxlan};
// Of outer headers, without Ethernet, by the outer family.
inline size_t OuterSizeOf(Forwarding forwarding, bool v6) {
  const size_t ip = v6 ? 40 : 20;
  switch (forwarding) {
    case Forwarding::kIpip: return ip;
    case Forwarding::kGre: return ip + 4;
    case Forwarding::kGue: return ip + 8 + 4;
    case Forwarding::kVxlan: return ip + 8 + 8 + 14;
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return 0;
}

// An IPv4 packet cut into fragments after `cuts` bytes of its payload, each a multiple of 8.
inline std::vector<Bytes> FragmentsOf(Ipv4 ip, const Bytes& payload,
                                      const std::vector<size_t>& cuts) {
  std::vector<Bytes> fragments;
  ip.dont_fragment = false;
  const auto base = ip.fragment_offset;
  for (size_t n = 0, at = 0; n <= cuts.size(); ++n) {
    const size_t end = n < cuts.size() ? cuts[n] : payload.size();
    ip.more_fragments = n < cuts.size();
    ip.fragment_offset = static_cast<uint16_t>(base + at / 8);
    fragments.push_back(ip.Around(Slice(payload, at, end - at)));
    at = end;
  }
  return fragments;
}

// The same of IPv6: the fragment header comes behind the extension headers given.
inline std::vector<Bytes> FragmentsOf(Ipv6 ip, const Bytes& payload,
                                      const std::vector<size_t>& cuts,
                                      uint32_t identification = 0x12345678) {
  std::vector<Bytes> fragments;
  const std::vector<Extension> before = ip.extensions;
  for (size_t n = 0, at = 0; n <= cuts.size(); ++n) {
    const size_t end = n < cuts.size() ? cuts[n] : payload.size();
    ip.extensions = before;
    ip.extensions.push_back(
        FragmentHeader(static_cast<uint16_t>(at / 8), n < cuts.size(), identification));
    fragments.push_back(ip.Around(Slice(payload, at, end - at)));
    at = end;
  }
  return fragments;
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_DATAPLANE_PACKET_ROWS_H_
