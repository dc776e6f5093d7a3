#include "maglev/envelope.h"

#include <cstring>
#include <utility>

#include "maglev/headers.h"
#include "maglev/snapshot.h"

namespace guideway {
namespace {

constexpr uint8_t kTimeToLive = 64;

uint16_t EtherTypeOf(int version) { return version == 4 ? kEtherTypeIpv4 : kEtherTypeIpv6; }
uint8_t ProtocolOf(int version) { return version == 4 ? kProtocolIpv4 : kProtocolIpv6; }

// Where a shim says what is inside, and how.
struct InnerType {
  size_t offset;  // from the start of the shim
  uint16_t value;
};
InnerType InnerTypeOf(Forwarding forwarding, int version) {
  switch (forwarding) {
    case Forwarding::kGre: return {offsetof(GreHeader, protocol), EtherTypeOf(version)};
    case Forwarding::kGue:
      // Protocol and the byte before it as one word.
      return {sizeof(UdpHeader), NetworkOrder(ProtocolOf(version))};
    case Forwarding::kVxlan:
      return {sizeof(UdpHeader) + sizeof(VxlanHeader) + offsetof(EthernetHeader, type),
              EtherTypeOf(version)};
    case Forwarding::kIpip:
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return {0, 0};
}

// Writes the shim; returns its end.
uint8_t* WriteShim(const Service& service, const Backend& backend, int version, uint8_t* at) {
  uint8_t* shim = at;
  if (service.forwarding == Forwarding::kGue || service.forwarding == Forwarding::kVxlan) {
    Write(at, UdpHeader{.destination_port = NetworkOrder(service.tunnel.port)});
    at += sizeof(UdpHeader);
  }
  if (service.forwarding == Forwarding::kGre) at += sizeof(GreHeader);
  if (service.forwarding == Forwarding::kGue) at += sizeof(GueHeader);
  if (service.forwarding == Forwarding::kVxlan) {
    Write(at, VxlanHeader{kVxlanValidVni, NetworkOrder32(service.tunnel.vni << 8)});
    at += sizeof(VxlanHeader);
    Write(at, EthernetHeader{service.tunnel.inner_mac, backend.next_hop.source, 0});
    at += sizeof(EthernetHeader);
  }
  const InnerType type = InnerTypeOf(service.forwarding, version);
  if (type.value != 0) Write(shim + type.offset, type.value);
  return at;
}

uint8_t OuterProtocol(Forwarding forwarding, int version) {
  if (forwarding == Forwarding::kIpip) return ProtocolOf(version);
  return forwarding == Forwarding::kGre ? kProtocolGre : kProtocolUdp;
}

}  // namespace

Envelope MakeEnvelope(const Service& service, const Backend& backend) {
  Envelope envelope;
  EnvelopeFacts& facts = envelope.facts;
  facts.size = Envelope::kEthernetSize;
  facts.forwarding = service.forwarding;
  facts.interface = backend.next_hop.interface;
  facts.mtu = backend.next_hop.is_known() ? backend.next_hop.mtu : uint16_t{0};
  const int version = backend.address.is_v4() ? 4 : 6;
  uint8_t* bytes = envelope.bytes.data();
  Write(bytes, EthernetHeader{backend.next_hop.destination, backend.next_hop.source,
                              EtherTypeOf(version)});
  if (!IsTunnel(service.forwarding)) return envelope;

  facts.is_ipv6 = version == 6;
  facts.spreads_source = !backend.tunnel_source.is_host();
  const uint8_t protocol = OuterProtocol(service.forwarding, version);
  facts.has_udp = protocol == kProtocolUdp;
  uint8_t* ip_at = bytes + sizeof(EthernetHeader);
  // Writes the header with its addresses; returns its end.
  const auto write_ip = [&](auto ip) {
    std::memcpy(ip.source, backend.tunnel_source.address.bytes(), sizeof(ip.source));
    std::memcpy(ip.destination, backend.address.bytes(), sizeof(ip.destination));
    Write(ip_at, ip);
    return ip_at + sizeof(ip);
  };
  uint8_t* shim =
      version == 4 ? write_ip(Ipv4Header{.version_and_length = 0x45,
                                         .fragment = kDontFragment,
                                         .time_to_live = kTimeToLive,
                                         .protocol = protocol})
                   : write_ip(Ipv6Header{.version_class_label = NetworkOrder32(uint32_t{6} << 28),
                                         .next_header = protocol,
                                         .hop_limit = kTimeToLive});
  const uint8_t* end = WriteShim(service, backend, version, shim);
  facts.size = static_cast<uint8_t>(end - bytes);
  if (version == 4) {
    envelope.sum = FoldedSum(SumOf(ip_at, sizeof(Ipv4Header)));
  } else {
    const auto& ip = HeaderAt<Ipv6Header>(ip_at);
    const uint32_t pseudo =
        PseudoHeaderSum(ip.source, ip.destination, sizeof(ip.source), protocol, 0);
    envelope.sum = FoldedSum(SumOf(shim, static_cast<size_t>(end - shim), pseudo));
  }
  return envelope;
}

Adjacency Adjacency::TakeFrom(Envelope& envelope) {
  Adjacency own;
  const auto take = [&](void* to, size_t offset, size_t size) {
    std::memcpy(to, &envelope.bytes[offset], size);
    std::memset(&envelope.bytes[offset], 0, size);
  };
  own.sum = std::exchange(envelope.sum, 0);
  take(&own.mac, offsetof(EthernetHeader, destination), sizeof(own.mac));
  if (!IsTunnel(envelope.facts.forwarding)) return own;
  if (envelope.facts.is_ipv6) {
    take(own.address, sizeof(EthernetHeader) + offsetof(Ipv6Header, destination),
         sizeof(own.address));
  } else {
    take(own.address, sizeof(EthernetHeader) + offsetof(Ipv4Header, destination),
         sizeof(Ipv4Header::destination));
  }
  return own;
}

uint32_t AdaptEnvelope(const EnvelopeFacts& envelope, int inner_version, uint8_t* ip) {
  const int outer_version = envelope.is_ipv6 ? 6 : 4;
  uint8_t* shim = ip + (envelope.is_ipv6 ? sizeof(Ipv6Header) : sizeof(Ipv4Header));
  if (envelope.forwarding == Forwarding::kIpip) {
    const uint8_t protocol = ProtocolOf(inner_version);
    if (envelope.is_ipv6) {
      HeaderAt<Ipv6Header>(ip).next_header = protocol;
      return 0;
    }
    HeaderAt<Ipv4Header>(ip).protocol = protocol;
    return NetworkOrder(static_cast<uint16_t>(protocol - ProtocolOf(outer_version)));
  }
  const InnerType was = InnerTypeOf(envelope.forwarding, outer_version);
  const InnerType is = InnerTypeOf(envelope.forwarding, inner_version);
  Write(shim + is.offset, is.value);
  // Over IPv4 no checksum covers it.
  return envelope.is_ipv6 ? is.value + uint32_t{static_cast<uint16_t>(~was.value)} : 0;
}

}  // namespace guideway
