// Tunnels: what is put in front of a client's packet. In a header, since each packet in a tunnel
// comes through here and a call with its arguments costs half as much as the work.
#ifndef GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
#define GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_

#include "dataplane/packet/burst.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/rewrite.h"
#include "maglev/snapshot.h"

namespace guideway {

// How the outer header answers to fragmentation.
struct OuterFragmentation {
  bool allowed;             // IPv4: no DF
  uint16_t identification;  // IPv4: of a packet that may be fragmented
};

namespace encapsulation {

inline constexpr uint8_t kOuterTimeToLive = 64;

// What is between the outer IP header and the client's packet, by Forwarding.
inline constexpr uint8_t kShimSizes[] = {0,
                                  sizeof(GreHeader),
                                  sizeof(UdpHeader) + sizeof(GueHeader),
                                  sizeof(UdpHeader) + sizeof(VxlanHeader) + sizeof(EthernetHeader),
                                  0,
                                  0};
inline uint32_t ShimSize(Forwarding forwarding) { return kShimSizes[static_cast<size_t>(forwarding)]; }

// DSCP and ECN.
inline uint8_t TrafficClass(IpBytes packet) {
  if (packet.version() == 4) return packet.data[1];
  return static_cast<uint8_t>(packet.data[0] << 4 | packet.data[1] >> 4);
}

// The outer source of a connection. Behind a prefix's bits stands the hash, so that outer packets of
// one connection come from one address, and those of many from many.
inline uint32_t OuterSourceV4(const Prefix& source, const FlowHash& hash) {
  const uint32_t address = source.address.v4_word();
  if (source.length == 32) return address;
  return address | (static_cast<uint32_t>(hash.flow) & NetworkOrder32(~0u >> source.length));
}
inline void WriteOuterSourceV6(const Prefix& source, const FlowHash& hash, uint8_t* at) {
  uint64_t first = Read<uint64_t>(source.address.bytes());
  uint64_t second = Read<uint64_t>(source.address.bytes() + 8);
  const auto host_bits = [](int length) {
    return length >= 64 ? 0 : NetworkOrder64(~uint64_t{0} >> length);
  };
  first |= hash.flow & host_bits(source.length);
  second |= hash.slot & (source.length < 64 ? ~uint64_t{0} : host_bits(source.length - 64));
  Write(at, first);
  Write(at + 8, second);
}

// The sum of the client's packet. A whole TCP, UDP or ICMP packet with a checksum is not read: with
// it, the transport part and its pseudo header sum to all ones, which is nothing.
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
  // So is an IPv4 header.
  if (!has_pseudo_header) return 0xffff;
  const uint8_t protocol = packet.icmp_type != 0 ? kProtocolIcmpv6 : key.protocol;
  if (key.version == 4) {
    const uint16_t pseudo = FoldedSum(PseudoHeaderSum(
        key.source, key.destination, sizeof(Ipv4Header::source), protocol, length));
    return static_cast<uint16_t>(~pseudo);
  }
  // The addresses are in the header and, taken away, in the pseudo header.
  const uint16_t pseudo = FoldedSum(uint64_t{NetworkOrder32(length)} + NetworkOrder32(protocol));
  return uint64_t{Read<uint32_t>(inner.data)} + Read<uint32_t>(inner.data + 4) +
         static_cast<uint16_t>(~pseudo);
}

// UDP of `length` bytes, from a port that the hash names; its checksum is not filled in. All these
// return the sum of what they write.
inline uint64_t WriteUdpShim(const Service& service, const FlowHash& hash, uint32_t length, uint8_t* at) {
  const uint16_t spread = static_cast<uint16_t>(hash.flow & 0x3fff);
  auto& udp = HeaderAt<UdpHeader>(at);
  const uint16_t source_port = NetworkOrder(kFirstTunnelPort + spread);
  const uint16_t destination_port = NetworkOrder(service.tunnel.port);
  const uint16_t udp_length = NetworkOrder(static_cast<uint16_t>(length));
  udp.source_port = source_port;
  udp.destination_port = destination_port;
  udp.length = udp_length;
  udp.checksum = 0;
  return uint64_t{source_port} + destination_port + udp_length;
}

inline uint64_t WriteGue(int inner_version, uint8_t* at) {
  auto& gue = HeaderAt<GueHeader>(at);
  const uint8_t protocol = inner_version == 4 ? kProtocolIpv4 : kProtocolIpv6;
  gue.variant_and_length = 0;
  gue.protocol = protocol;
  gue.flags = 0;
  return NetworkOrder(protocol);
}

inline uint64_t WriteVxlan(const TunnelSettings& tunnel, const MacAddress& source, uint16_t ether_type,
                    uint8_t* at) {
  auto& vxlan = HeaderAt<VxlanHeader>(at);
  const uint32_t vni = NetworkOrder32(tunnel.vni << 8);
  vxlan.flags = kVxlanValidVni;
  vxlan.vni = vni;
  auto& ethernet = HeaderAt<EthernetHeader>(at + sizeof(vxlan));
  ethernet.destination = tunnel.inner_mac;
  ethernet.source = source;
  ethernet.type = ether_type;
  return uint64_t{kVxlanValidVni} + vni + SumOf(&tunnel.inner_mac, sizeof(MacAddress)) +
         SumOf(&source, sizeof(MacAddress)) + ether_type;
}

inline uint64_t WriteShim(const Service& service, const Backend& backend, const FlowHash& hash,
                   uint32_t length, int inner_version, uint8_t* at) {
  const uint16_t ether_type = inner_version == 4 ? kEtherTypeIpv4 : kEtherTypeIpv6;
  switch (service.forwarding) {
    case Forwarding::kGre: Write(at, uint32_t{ether_type} << 16); break;
    case Forwarding::kGue:
      return WriteUdpShim(service, hash, length, at) +
             WriteGue(inner_version, at + sizeof(UdpHeader));
    case Forwarding::kVxlan:
      return WriteUdpShim(service, hash, length, at) +
             WriteVxlan(service.tunnel, backend.next_hop.source, ether_type,
                        at + sizeof(UdpHeader));
    case Forwarding::kIpip:
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return 0;
}

inline uint8_t OuterProtocol(Forwarding forwarding, int inner_version) {
  if (forwarding == Forwarding::kIpip) return inner_version == 4 ? kProtocolIpv4 : kProtocolIpv6;
  return forwarding == Forwarding::kGre ? kProtocolGre : kProtocolUdp;
}

}  // namespace encapsulation

// What the outer headers of this service add toward this backend, in bytes.
inline uint32_t OuterSize(const Service& service, const Backend& backend) {
  if (!IsTunnel(service.forwarding)) return 0;
  const size_t ip = backend.address.is_v4() ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  return static_cast<uint32_t>(ip) + encapsulation::ShimSize(service.forwarding);
}

// Puts the outer headers in front of a whole or partial client packet: ipip (RFC 2003, RFC 2473),
// gre (RFC 2784), gue (draft-ietf-intarea-gue, variant 0) or vxlan (RFC 7348). Inside nothing
// changes. DSCP is copied, ECN too (RFC 6040, normal mode).
inline IpBytes Encapsulate(const Service& service, const Backend& backend, const FlowHash& hash,
                    OuterFragmentation fragmentation, const ParsedPacket& packet,
                    const FlowKey& key, IpBytes inner) {
  using namespace encapsulation;
  const int inner_version = inner.version();
  const uint8_t protocol = OuterProtocol(service.forwarding, inner_version);
  const uint8_t traffic_class = TrafficClass(inner);
  const uint32_t shim_size = ShimSize(service.forwarding);
  uint8_t* shim = inner.data - shim_size;
  const uint32_t payload = inner.length + shim_size;
  const uint64_t shim_sum = WriteShim(service, backend, hash, payload, inner_version, shim);

  if (backend.address.is_v4()) {
    uint8_t* at = shim - sizeof(Ipv4Header);
    const uint32_t length = payload + static_cast<uint32_t>(sizeof(Ipv4Header));
    const uint32_t source = OuterSourceV4(backend.tunnel_source, hash);
    const uint32_t destination = backend.address.v4_word();
    // The header as the words that its checksum adds up.
    const uint32_t first = 0x45u | uint32_t{traffic_class} << 8 |
                           uint32_t{NetworkOrder(static_cast<uint16_t>(length))} << 16;
    const uint32_t second =
        fragmentation.allowed ? NetworkOrder(fragmentation.identification) : kDontFragment << 16;
    const uint32_t third = kOuterTimeToLive | uint32_t{protocol} << 8;
    const uint16_t sum = FoldedSum(uint64_t{first} + second + third + source + destination);
    const uint32_t checksum = static_cast<uint16_t>(~sum);
    Write(at, first | uint64_t{second} << 32);
    Write(at + 8, (third | checksum << 16) | uint64_t{source} << 32);
    Write(at + 16, destination);
    return {at, length};
  }
  uint8_t* at = shim - sizeof(Ipv6Header);
  auto& outer = HeaderAt<Ipv6Header>(at);
  const uint32_t flow_label = static_cast<uint32_t>(hash.flow >> 16) & 0xfffff;
  outer.version_class_label =
      NetworkOrder32(uint32_t{6} << 28 | uint32_t{traffic_class} << 20 | flow_label);
  outer.payload_length = NetworkOrder(static_cast<uint16_t>(payload));
  outer.next_header = protocol;
  outer.hop_limit = kOuterTimeToLive;
  WriteOuterSourceV6(backend.tunnel_source, hash, outer.source);
  std::memcpy(outer.destination, backend.address.bytes(), sizeof(outer.destination));
  if (protocol == kProtocolUdp) {
    // RFC 6935 would let it be zero; then a wrong address or port would go unseen.
    const uint64_t sum = InnerSum(packet, key, inner) + shim_sum +
                         PseudoHeaderSum(outer.source, outer.destination, sizeof(outer.source),
                                         protocol, payload);
    const uint16_t checksum = static_cast<uint16_t>(~FoldedSum(sum));
    HeaderAt<UdpHeader>(shim).checksum = checksum == 0 ? uint16_t{0xffff} : checksum;
  }
  return {at, payload + static_cast<uint32_t>(sizeof(outer))};
}

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_ENCAPSULATE_H_
