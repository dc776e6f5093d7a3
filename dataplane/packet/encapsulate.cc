#include "dataplane/packet/headers.h"
#include "dataplane/packet/rewrite.h"

namespace guideway {
namespace {

constexpr uint8_t kOuterTimeToLive = 64;

size_t IpHeaderSize(const IpAddress& address) {
  return address.is_v4() ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
}

// What is between the outer IP header and the client's packet.
size_t ShimSize(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::kIpip: return 0;
    case Forwarding::kGre: return sizeof(GreHeader);
    case Forwarding::kGue: return sizeof(UdpHeader) + sizeof(GueHeader);
    case Forwarding::kVxlan:
      return sizeof(UdpHeader) + sizeof(VxlanHeader) + sizeof(EthernetHeader);
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return 0;
}

// DSCP and ECN.
uint8_t TrafficClass(IpBytes packet) {
  if (packet.version() == 4) return packet.data[1];
  return static_cast<uint8_t>(packet.data[0] << 4 | packet.data[1] >> 4);
}

// Puts the host's part of the hash behind the prefix's bits, so that outer packets of one
// connection come from one address, and those of many from many.
void WriteSource(const Prefix& source, const FlowHash& hash, uint8_t* at) {
  const size_t size = source.address.bits() / 8;
  std::memcpy(at, source.address.bytes(), size);
  if (source.is_host()) return;
  uint8_t spread[16];
  std::memcpy(spread, &hash.flow, 8);
  std::memcpy(spread + 8, &hash.slot, 8);
  for (size_t i = source.length / 8; i < size; ++i) {
    const int kept = i == static_cast<size_t>(source.length / 8) ? source.length % 8 : 0;
    at[i] |= spread[i] & static_cast<uint8_t>(0xff >> kept);
  }
}

// The sum of the client's packet. A whole TCP, UDP or ICMP packet with a checksum is not read: with
// it, the transport part and its pseudo header sum to all ones.
uint32_t InnerSum(const ParsedPacket& packet, const FlowKey& key, IpBytes inner) {
  const size_t address_size = key.version == 4 ? 4 : 16;
  const uint8_t* transport = inner.data + packet.transport_offset;
  const uint32_t length = packet.transport_length();
  bool is_summed = false, has_pseudo_header = true;
  // With a routing header the pseudo header would have another destination.
  const bool has_extensions = key.version == 6 && packet.transport_offset != sizeof(Ipv6Header);
  if (!packet.is_fragment && !has_extensions) {
    if (key.protocol == kProtocolTcp) is_summed = true;
    if (key.protocol == kProtocolUdp) {
      const auto udp = Read<UdpHeader>(transport);
      is_summed = udp.checksum != 0 && NetworkOrder(udp.length) == length;
    }
    // That of ICMP was looked at, and its keys may be those of the connection it is about.
    if (packet.icmp_type != 0) {
      is_summed = true;
      has_pseudo_header = key.version == 6;
    }
  }
  if (!is_summed) return SumOf(inner.data, inner.length);
  uint32_t sum = SumOf(inner.data, packet.transport_offset);
  if (!has_pseudo_header) return sum + 0xffff;
  const uint8_t protocol = packet.icmp_type != 0 ? kProtocolIcmpv6 : key.protocol;
  const size_t addresses = key.version == 4 ? offsetof(Ipv4Header, source) : offsetof(Ipv6Header, source);
  const uint8_t* source = inner.data + addresses;
  const uint16_t pseudo = FoldedSum(
      PseudoHeaderSum(source, source + address_size, address_size, protocol, length));
  return sum + static_cast<uint16_t>(~pseudo);
}

// UDP of `length` bytes, from a port that the hash names; its checksum is not filled in.
void WriteUdpShim(const Service& service, const FlowHash& hash, uint32_t length, uint8_t* at) {
  const uint16_t spread = static_cast<uint16_t>(hash.flow & 0x3fff);
  Write(at, UdpHeader{.source_port = NetworkOrder(kFirstTunnelPort + spread),
                      .destination_port = NetworkOrder(service.tunnel.port),
                      .length = NetworkOrder(static_cast<uint16_t>(length)),
                      .checksum = 0});
}

void WriteShim(const Service& service, const Backend& backend, const FlowHash& hash,
               uint32_t length, int inner_version, uint8_t* at) {
  const uint16_t ether_type = inner_version == 4 ? kEtherTypeIpv4 : kEtherTypeIpv6;
  switch (service.forwarding) {
    case Forwarding::kGre: Write(at, GreHeader{0, ether_type}); break;
    case Forwarding::kGue:
      WriteUdpShim(service, hash, length, at);
      Write(at + sizeof(UdpHeader),
            GueHeader{0, inner_version == 4 ? kProtocolIpv4 : kProtocolIpv6, 0});
      break;
    case Forwarding::kVxlan:
      WriteUdpShim(service, hash, length, at);
      Write(at + sizeof(UdpHeader),
            VxlanHeader{kVxlanValidVni, NetworkOrder32(service.tunnel.vni << 8)});
      Write(at + sizeof(UdpHeader) + sizeof(VxlanHeader),
            EthernetHeader{service.tunnel.inner_mac, backend.next_hop.source, ether_type});
      break;
    case Forwarding::kIpip:
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
}

uint8_t OuterProtocol(Forwarding forwarding, int inner_version) {
  switch (forwarding) {
    case Forwarding::kGre: return kProtocolGre;
    case Forwarding::kGue:
    case Forwarding::kVxlan: return kProtocolUdp;
    case Forwarding::kIpip:
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return inner_version == 4 ? kProtocolIpv4 : kProtocolIpv6;
}

}  // namespace

uint32_t OuterSize(const Service& service, const Backend& backend) {
  if (!IsTunnel(service.forwarding)) return 0;
  return static_cast<uint32_t>(IpHeaderSize(backend.address) + ShimSize(service.forwarding));
}

IpBytes Encapsulate(const Service& service, const Backend& backend, const FlowHash& hash,
                    OuterFragmentation fragmentation, const ParsedPacket& packet,
                    const FlowKey& key, IpBytes inner) {
  const uint8_t protocol = OuterProtocol(service.forwarding, inner.version());
  const uint8_t traffic_class = TrafficClass(inner);
  const size_t shim_size = ShimSize(service.forwarding);
  uint8_t* shim = inner.data - shim_size;
  const uint32_t payload = inner.length + static_cast<uint32_t>(shim_size);
  WriteShim(service, backend, hash, payload, inner.version(), shim);

  // Outer source and destination at the end of either header.
  if (backend.address.is_v4()) {
    Ipv4Header outer = {
        .version_and_length = 0x45,
        .type_of_service = traffic_class,
        .total_length = NetworkOrder(static_cast<uint16_t>(sizeof(Ipv4Header) + payload)),
        .identification =
            fragmentation.allowed ? NetworkOrder(fragmentation.identification) : uint16_t{0},
        .fragment = fragmentation.allowed ? uint16_t{0} : kDontFragment,
        .time_to_live = kOuterTimeToLive,
        .protocol = protocol};
    WriteSource(backend.tunnel_source, hash, outer.source);
    std::memcpy(outer.destination, backend.address.bytes(), sizeof(outer.destination));
    outer.checksum = InternetChecksum(&outer, sizeof(outer));
    uint8_t* at = shim - sizeof(outer);
    Write(at, outer);
    return {at, payload + static_cast<uint32_t>(sizeof(outer))};
  }
  const uint32_t flow_label = static_cast<uint32_t>(hash.flow >> 16) & 0xfffff;
  Ipv6Header outer = {.version_class_label = NetworkOrder32(
                          uint32_t{6} << 28 | uint32_t{traffic_class} << 20 | flow_label),
                      .payload_length = NetworkOrder(static_cast<uint16_t>(payload)),
                      .next_header = protocol,
                      .hop_limit = kOuterTimeToLive};
  WriteSource(backend.tunnel_source, hash, outer.source);
  std::memcpy(outer.destination, backend.address.bytes(), sizeof(outer.destination));
  if (protocol == kProtocolUdp) {
    // RFC 6935 would let it be zero; then a wrong address or port would go unseen.
    uint32_t sum = InnerSum(packet, key, inner);
    sum = SumOf(shim, shim_size, sum);
    sum += FoldedSum(
        PseudoHeaderSum(outer.source, outer.destination, sizeof(outer.source), protocol, payload));
    const uint16_t checksum = static_cast<uint16_t>(~FoldedSum(sum));
    Write(shim + offsetof(UdpHeader, checksum), checksum == 0 ? uint16_t{0xffff} : checksum);
  }
  uint8_t* at = shim - sizeof(outer);
  Write(at, outer);
  return {at, payload + static_cast<uint32_t>(sizeof(outer))};
}

}  // namespace guideway
