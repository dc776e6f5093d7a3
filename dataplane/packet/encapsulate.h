// Tunnels: a packet into its envelope (maglev/envelope.h): ipip (RFC 2003, RFC 2473), gre (RFC
// 2784), gue (draft-ietf-intarea-gue, variant 0) or vxlan (RFC 7348). Inside nothing changes. DSCP
// is copied, ECN too (RFC 6040, normal mode). In a header, since every packet in a tunnel comes
// through here.
#ifndef GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
#define GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_

#include <smmintrin.h>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/rewrite.h"
#include "maglev/envelope.h"
#include "maglev/headers.h"
#include "maglev/snapshot.h"

namespace guideway {

// Copies an envelope of a tunnel, 16 bytes at a time: the last ones may overlap those before.
inline void CopyEnvelope(const uint8_t* from, uint32_t size, uint8_t* to) {
  const auto copy = [&](size_t at) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
  };
  static_assert(Envelope::kEthernetSize + sizeof(Ipv4Header) >= 32);
  static_assert(Envelope::kMaxSize <= 96);
  copy(0);
  copy(16);
  if (size > 48) copy(32);
  if (size > 64) {
    copy(48);
    if (size > 80) copy(64);
  }
  copy(size - 16);
}

// The sum of the client's packet. Of a whole TCP, UDP or ICMP packet with a checksum only the IP
// header is read: with it, the transport part and its pseudo header sum to all ones, which is
// nothing.
inline uint64_t InnerSum(const ParsedPacket& packet, const FlowKey& key, IpBytes inner) {
  const uint8_t* transport = inner.data + packet.transport_offset;
  const uint32_t length = packet.transport_length();
  bool is_summed = false, has_pseudo_header = true;
  // With a routing header the pseudo header would have another destination.
  const bool has_extensions = key.version == 6 && packet.transport_offset != sizeof(Ipv6Header);
  if (!packet.is_fragment && !has_extensions) {
    if (key.protocol == kProtocolTcp) is_summed = true;
    if (key.protocol == kProtocolUdp) {
      const auto& udp = HeaderAt<UdpHeader>(transport);
      is_summed = udp.checksum != 0 && NetworkOrder(udp.length) == length;
    }
    // That of ICMP was looked at, and its keys may be those of the connection it is about.
    if (packet.icmp_type != 0) {
      is_summed = true;
      has_pseudo_header = key.version == 6;
    }
  }
  if (!is_summed) return SumOf(inner.data, inner.length);
  if (key.version == 4) {
    const uint64_t header = SumOf(inner.data, packet.transport_offset);
    if (!has_pseudo_header) return header + 0xffff;
    const uint8_t* source = inner.data + offsetof(Ipv4Header, source);
    constexpr size_t kAddress = sizeof(Ipv4Header::source);
    const uint16_t pseudo =
        FoldedSum(PseudoHeaderSum(source, source + kAddress, kAddress, key.protocol, length));
    return header + static_cast<uint16_t>(~pseudo);
  }
  const uint8_t protocol = packet.icmp_type != 0 ? kProtocolIcmpv6 : key.protocol;
  // The addresses are in the header and, taken away, in the pseudo header.
  const uint32_t pseudo =
      uint32_t{NetworkOrder(static_cast<uint16_t>(length))} + NetworkOrder(uint16_t{protocol});
  return uint64_t{Read<uint32_t>(inner.data)} + Read<uint32_t>(inner.data + 4) +
         (2 * 0xffff - pseudo);
}

// Puts the hash behind the prefix's bits, so that outer packets of one connection come from one
// address, and those of many from many. Returns the sum of these bits.
inline uint32_t SpreadSourceV4(const Prefix& source, const FlowHash& hash, uint8_t* at) {
  const uint32_t bits = static_cast<uint32_t>(hash.flow) & NetworkOrder32(~0u >> source.length);
  Write(at, Read<uint32_t>(at) | bits);
  return FoldedSum(bits);
}
inline uint32_t SpreadSourceV6(const Prefix& source, const FlowHash& hash, uint8_t* at) {
  const auto host_bits = [](int length) {
    return length >= 64 ? 0 : NetworkOrder64(~uint64_t{0} >> length);
  };
  const uint64_t bits[2] = {
      hash.flow & host_bits(source.length),
      hash.slot & (source.length < 64 ? ~uint64_t{0} : host_bits(source.length - 64))};
  Write(at, Read<uint64_t>(at) | bits[0]);
  Write(at + 8, Read<uint64_t>(at + 8) | bits[1]);
  return FoldedSum(SumOf(bits, sizeof(bits)));
}

inline uint16_t TunnelPort(const FlowHash& hash) {
  return NetworkOrder(kFirstTunnelPort + static_cast<uint16_t>(hash.flow & 0x3fff));
}
inline uint8_t TrafficClassV6(const uint8_t* ip) {
  return static_cast<uint8_t>(ip[0] << 4 | ip[1] >> 4);
}

// Not a number of a packet that may be fragmented outside: DF is set.
inline constexpr uint32_t kNotFragmented = ~uint32_t{0};

// Puts a whole or partial client packet into an envelope with IPv4, or with IPv6, Ethernet
// included. Returns the outer IP packet. `identification`: of the outer IPv4 header.
[[gnu::always_inline]] inline IpBytes EncapsulateInIpv4(const Snapshot& snapshot, const Packet& p,
                                                        const Envelope& envelope,
                                                        uint32_t identification, IpBytes inner) {
  const EnvelopeFacts facts = envelope.facts;
  const Adjacency& adjacency = p.per_backend->adjacency;
  const uint32_t outer_size = facts.outer_size();
  uint8_t* ip = inner.data - outer_size;
  uint32_t sum = adjacency.sum;
  uint8_t traffic_class = inner.data[1];
  const bool is_ipv6_inside = p.key.version == 6;
  CopyEnvelope(envelope.bytes.data(), facts.size, ip - Envelope::kEthernetSize);
  adjacency.PutInto(facts, ip - Envelope::kEthernetSize);
  if (is_ipv6_inside) [[unlikely]] {
    traffic_class = TrafficClassV6(inner.data);
    sum += AdaptEnvelope(facts, 6, ip);
  }
  const uint32_t length = inner.length + outer_size;
  const uint16_t total_length = NetworkOrder(static_cast<uint16_t>(length));
  auto& outer = HeaderAt<Ipv4Header>(ip);
  outer.type_of_service = traffic_class;
  outer.total_length = total_length;
  sum += total_length + (uint32_t{traffic_class} << 8);
  if (identification != kNotFragmented) {
    const uint16_t number = NetworkOrder(static_cast<uint16_t>(identification));
    outer.identification = number;
    outer.fragment = 0;
    sum += number + uint32_t{static_cast<uint16_t>(~kDontFragment)};
  }
  if (facts.spreads_source) {
    sum += SpreadSourceV4(snapshot.FindBackend(p.backend)->tunnel_source, p.hash, outer.source);
  }
  outer.checksum = static_cast<uint16_t>(~FoldedSum(sum));
  if (facts.has_udp) {
    auto& udp = HeaderAt<UdpHeader>(ip + sizeof(outer));
    udp.source_port = TunnelPort(p.hash);
    udp.length = NetworkOrder(static_cast<uint16_t>(length - sizeof(outer)));
  }
  return {ip, length};
}
inline IpBytes EncapsulateInIpv6(const Snapshot& snapshot, const Packet& p,
                                 const Envelope& envelope, IpBytes inner) {
  const EnvelopeFacts facts = envelope.facts;
  const Adjacency& adjacency = p.per_backend->adjacency;
  const uint32_t outer_size = facts.outer_size();
  uint8_t* ip = inner.data - outer_size;
  uint32_t sum = adjacency.sum;
  uint8_t traffic_class = TrafficClassV6(inner.data);
  const bool is_ipv4_inside = p.key.version == 4;
  CopyEnvelope(envelope.bytes.data(), facts.size, ip - Envelope::kEthernetSize);
  adjacency.PutInto(facts, ip - Envelope::kEthernetSize);
  if (is_ipv4_inside) [[unlikely]] {
    traffic_class = inner.data[1];
    sum += AdaptEnvelope(facts, 4, ip);
  }
  const uint32_t length = inner.length + outer_size;
  const uint16_t payload_length = NetworkOrder(static_cast<uint16_t>(length - sizeof(Ipv6Header)));
  const uint32_t flow_label = static_cast<uint32_t>(p.hash.flow >> 16) & 0xfffff;
  auto& outer = HeaderAt<Ipv6Header>(ip);
  outer.version_class_label =
      NetworkOrder32(uint32_t{6} << 28 | uint32_t{traffic_class} << 20 | flow_label);
  outer.payload_length = payload_length;
  if (facts.spreads_source) {
    sum += SpreadSourceV6(snapshot.FindBackend(p.backend)->tunnel_source, p.hash, outer.source);
  }
  if (facts.has_udp) {
    auto& udp = HeaderAt<UdpHeader>(ip + sizeof(outer));
    const uint16_t port = TunnelPort(p.hash);
    udp.source_port = port;
    udp.length = payload_length;
    // RFC 6935 would let it be zero; then a wrong address or port would go unseen. The length is in
    // the header and in the pseudo header.
    sum += port + 2 * uint32_t{payload_length};
    const auto checksum = static_cast<uint16_t>(~FoldedSum(InnerSum(p.parsed, p.key, inner) + sum));
    udp.checksum = checksum == 0 ? uint16_t{0xffff} : checksum;
  }
  return {ip, length};
}

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
