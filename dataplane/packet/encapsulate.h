// Tunnels: a packet into its envelope (maglev/envelope.h): ipip (RFC 2003, RFC 2473), gre (RFC
// 2784), gue (draft-ietf-intarea-gue, variant 0) or vxlan (RFC 7348). Inside nothing changes. DSCP
// is copied, ECN too (RFC 6040, normal mode). In a header, to be inlined into Rewrite: what is not
// common is kept out of it, and IPv6 too, for inlined it cost IPv4 2 ns (docs/performance.md).
#ifndef GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
#define GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_

#include <smmintrin.h>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/rewrite.h"
#include "maglev/envelope.h"
#include "maglev/headers.h"
#include "maglev/snapshot.h"

namespace guideway {

// Copies what an envelope has from byte `at` on, behind the outer IP header.
inline void CopyShim(const Envelope& envelope, size_t at, uint8_t* ethernet) {
  const auto copy8 = [&](size_t from) {
    Write(ethernet + from, Read<uint64_t>(&envelope.bytes[from]));
  };
  const size_t end = envelope.facts.size;
  static_assert(Envelope::kMaxShim <= 32);
  if (end == at) return;
  copy8(end - 8);  // into what is in front, if there is less
  if (end - at > 8) copy8(at);
  if (end - at > 16) {
    copy8(at + 8);
    if (end - at > 24) copy8(at + 16);
  }
}

// What of a backend's stands in front of its MAC address: the checksum.
inline uint64_t MacOf(const Adjacency& adjacency) {
  static_assert(offsetof(Adjacency, mac) == offsetof(Adjacency, sum) + sizeof(Adjacency::sum));
  return Read<uint64_t>(reinterpret_cast<const uint8_t*>(&adjacency.sum)) >> 16;
}

// Write an envelope: all of it, but for checksums and ports, and identification where there is one.
// In few stores, since stores are what a core has least of; each but a few goes into one line of
// cache if the packet that it is put in front of begins with one.
inline void WriteEnvelopeV4(const Envelope& envelope, const Adjacency& adjacency,
                            uint8_t traffic_class, uint16_t total_length, uint8_t* ethernet) {
  constexpr size_t kIp = Envelope::kEthernetSize;
  const uint8_t* from = envelope.bytes.data();
  CopyShim(envelope, kIp + sizeof(Ipv4Header), ethernet);
  Write(ethernet, Read<uint64_t>(from) | MacOf(adjacency));
  static_assert(kIp + offsetof(Ipv4Header, type_of_service) == 15);
  Write(ethernet + 8, Read<uint64_t>(from + 8) | uint64_t{traffic_class} << 56);
  static_assert(kIp + offsetof(Ipv4Header, total_length) == 16);
  Write(ethernet + 16, uint32_t{total_length});
  Write(ethernet + 20, Read<uint64_t>(from + 20));
  static_assert(kIp + offsetof(Ipv4Header, source) == 26);
  Write(ethernet + 26,
        Read<uint32_t>(from + 26) | uint64_t{Read<uint32_t>(adjacency.address)} << 32);
}
inline void WriteEnvelopeV6(const Envelope& envelope, const Adjacency& adjacency,
                            uint32_t version_class_label, uint16_t payload_length,
                            uint8_t* ethernet) {
  constexpr size_t kIp = Envelope::kEthernetSize;
  const uint8_t* from = envelope.bytes.data();
  const auto copy16 = [&](const uint8_t* bytes, size_t at) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(ethernet + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  };
  CopyShim(envelope, kIp + sizeof(Ipv6Header), ethernet);
  Write(ethernet, Read<uint64_t>(from) | MacOf(adjacency));
  Write(ethernet + 8, Read<uint64_t>(from + 8));
  static_assert(kIp + offsetof(Ipv6Header, next_header) == kIp + 6);
  Write(ethernet + kIp, Read<uint64_t>(from + kIp) >> 48 << 48 | uint64_t{payload_length} << 32 |
                            version_class_label);
  copy16(from + kIp + offsetof(Ipv6Header, source), kIp + offsetof(Ipv6Header, source));
  copy16(adjacency.address, kIp + offsetof(Ipv6Header, destination));
}

// That of an IPv6 packet whose transport part has a checksum, if that is right: transport part and
// pseudo header sum to all ones, which is nothing. The addresses are in the header and, taken away,
// in the pseudo header, and so is the length; the protocol is in either in another byte.
inline uint64_t SumOfChecksummedIpv6(const uint8_t* ip, uint8_t protocol) {
  return uint64_t{Read<uint32_t>(ip)} + Read<uint16_t>(ip + offsetof(Ipv6Header, next_header)) +
         (0xffff - NetworkOrder(uint16_t{protocol}));
}

// The sum of any client packet, whatever its key says: of a whole one with a checksum that of its
// headers, of all others byte by byte.
[[gnu::noinline]] inline uint64_t SumOfAny(const ParsedPacket& packet, const FlowKey& key,
                                           IpBytes inner) {
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
  return SumOfChecksummedIpv6(inner.data, packet.icmp_type != 0 ? kProtocolIcmpv6 : key.protocol);
}

// Whether a client packet is TCP over IPv6 without extensions, a fragment header among them. An
// ICMP error about TCP has TCP's key.
inline bool IsPlainTcpInIpv6(const ParsedPacket& packet, const FlowKey& key) {
  return key.protocol == kProtocolTcp && key.version == 6 && packet.icmp_type == 0 &&
         packet.transport_offset == sizeof(Ipv6Header);
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

// Writes the whole UDP header behind the outer IPv6 header: in the envelope all but the destination
// port is 0.
inline void WriteUdp(const Envelope& envelope, uint16_t source_port, uint16_t length,
                     uint16_t checksum, Ipv6Header& ip) {
  static_assert(offsetof(UdpHeader, source_port) == 0 && offsetof(UdpHeader, length) == 4 &&
                offsetof(UdpHeader, checksum) == 6 && sizeof(UdpHeader) == 8);
  const auto bytes = Read<uint64_t>(&envelope.bytes[Envelope::kEthernetSize + sizeof(ip)]);
  Write(reinterpret_cast<uint8_t*>(&ip + 1),
        bytes | source_port | uint64_t{length} << 32 | uint64_t{checksum} << 48);
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
                                                        const EnvelopeFacts facts,
                                                        int inner_version, uint32_t identification,
                                                        IpBytes inner) {
  const Adjacency& adjacency = p.per_backend->adjacency;
  const uint32_t outer_size = facts.outer_size();
  uint8_t* ip = inner.data - outer_size;
  uint32_t sum = adjacency.sum;
  uint8_t traffic_class = inner.data[1];
  if (inner_version == 6) [[unlikely]]
    traffic_class = TrafficClassV6(inner.data);
  const uint32_t length = inner.length + outer_size;
  const uint16_t total_length = NetworkOrder(static_cast<uint16_t>(length));
  WriteEnvelopeV4(envelope, adjacency, traffic_class, total_length, ip - Envelope::kEthernetSize);
  if (inner_version == 6) [[unlikely]]
    sum += AdaptEnvelope(facts, 6, ip);
  auto& outer = HeaderAt<Ipv4Header>(ip);
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
// `is_plain`: plain TCP over IPv6 from a single outer source. Then nothing has to be called.
template <bool is_plain>
[[gnu::noinline]] IpBytes EncapsulateInIpv6As(const Snapshot& snapshot, const Packet& p,
                                              const Envelope& envelope, IpBytes inner) {
  const EnvelopeFacts facts = envelope.facts;
  const Adjacency& adjacency = p.per_backend->adjacency;
  const uint32_t outer_size = facts.outer_size();
  uint8_t* ip = inner.data - outer_size;
  uint32_t sum = adjacency.sum;
  // Version and traffic class, and of the hash a flow label.
  uint32_t head = Read<uint32_t>(inner.data) & NetworkOrder32(0xfff00000);
  const bool is_ipv4_inside = !is_plain && p.key.version == 4;
  if (is_ipv4_inside) head = NetworkOrder32(uint32_t{6} << 28 | uint32_t{inner.data[1]} << 20);
  head |= static_cast<uint32_t>(p.hash.flow >> 16) & NetworkOrder32(0x000fffff);
  const uint32_t length = inner.length + outer_size;
  const uint16_t payload_length = NetworkOrder(static_cast<uint16_t>(length - sizeof(Ipv6Header)));
  WriteEnvelopeV6(envelope, adjacency, head, payload_length, ip - Envelope::kEthernetSize);
  if (is_ipv4_inside) sum += AdaptEnvelope(facts, 4, ip);
  auto& outer = HeaderAt<Ipv6Header>(ip);
  if (!is_plain && facts.spreads_source) {
    sum += SpreadSourceV6(snapshot.FindBackend(p.backend)->tunnel_source, p.hash, outer.source);
  }
  if (facts.has_udp) {
    const uint64_t inner_sum = is_plain ? SumOfChecksummedIpv6(inner.data, kProtocolTcp)
                                        : SumOfAny(p.parsed, p.key, inner);
    const uint16_t port = TunnelPort(p.hash);
    // RFC 6935 would let it be zero; then a wrong address or port would go unseen. The length is in
    // the header and in the pseudo header. Complemented before it is folded, it is never zero, but
    // 0xffff: only zero folds to zero.
    sum += port + 2 * uint32_t{payload_length};
    WriteUdp(envelope, port, payload_length, FoldedSum(~(inner_sum + sum)), outer);
  }
  return {ip, length};
}

[[gnu::always_inline]] inline IpBytes EncapsulateInIpv6(const Snapshot& snapshot, const Packet& p,
                                                        const Envelope& envelope,
                                                        const EnvelopeFacts facts, IpBytes inner) {
  return IsPlainTcpInIpv6(p.parsed, p.key) && !facts.spreads_source
             ? EncapsulateInIpv6As<true>(snapshot, p, envelope, inner)
             : EncapsulateInIpv6As<false>(snapshot, p, envelope, inner);
}

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
