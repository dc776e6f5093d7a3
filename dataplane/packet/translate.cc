#include <algorithm>
#include <cstddef>

#include "dataplane/packet/parse.h"
#include "dataplane/packet/rewrite.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

// One end of a packet, as it is to be.
struct End {
  bool is_source;
  IpAddress address;
  uint16_t port;  // in network order; 0: stays
};

// Where a transport's checksum over the pseudo header is, from the start of the transport header;
// 0 if it has none.
size_t ChecksumOffset(uint8_t protocol) {
  switch (protocol) {
    case kProtocolTcp: return offsetof(TcpHeader, checksum);
    case kProtocolUdp: return offsetof(UdpHeader, checksum);
    case kProtocolIcmpv6: return offsetof(IcmpHeader, checksum);
    default: return 0;
  }
}

// Puts the end in place and corrects the checksums that cover it, as far as they are there: a
// quoted packet may be cut off. Returns all that changed.
[[gnu::always_inline]] inline ChecksumUpdate Put(const End& end, const ParsedPacket& packet,
                                                 uint8_t protocol, IpBytes bytes) {
  ChecksumUpdate all, transport;
  const auto put = [&](ChecksumUpdate& update, uint8_t* at, const void* with, size_t size) {
    ChecksumUpdate change;
    change.Replace(at, with, size);
    update.Add(change);
    all.Add(change);
  };
  if (bytes.version() == 4) {
    put(transport,
        bytes.data +
            (end.is_source ? offsetof(Ipv4Header, source) : offsetof(Ipv4Header, destination)),
        end.address.bytes(), 4);
    uint8_t* checksum = bytes.data + offsetof(Ipv4Header, checksum);
    const uint16_t corrected = transport.Applied(Read<uint16_t>(checksum));
    all.Replace(checksum, &corrected, sizeof(corrected));
  } else {
    put(transport,
        bytes.data +
            (end.is_source ? offsetof(Ipv6Header, source) : offsetof(Ipv6Header, destination)),
        end.address.bytes(), 16);
  }
  if (packet.is_later_fragment) return all;
  const bool has_ports = protocol == kProtocolTcp || protocol == kProtocolUdp;
  if (has_ports && end.port != 0) {
    put(transport, bytes.data + packet.transport_offset + (end.is_source ? 0 : 2), &end.port,
        sizeof(end.port));
  }
  const size_t offset = ChecksumOffset(protocol);
  const size_t in_packet = packet.transport_offset + offset;
  if (offset == 0 || in_packet + 2 > packet.ip_length) return all;
  uint8_t* checksum = bytes.data + in_packet;
  const uint16_t old = Read<uint16_t>(checksum);
  if (protocol == kProtocolUdp && old == 0) return all;  // there is none
  uint16_t corrected = transport.Applied(old);
  if (protocol == kProtocolUdp && corrected == 0) corrected = 0xffff;
  all.Replace(checksum, &corrected, sizeof(corrected));
  return all;
}

// Puts one end of an ICMP error, and the other end of the packet that it quotes.
[[gnu::noinline]] void PutQuoted(End end, uint16_t quote, const ParsedPacket& packet,
                                 IpBytes bytes) {
  const IpBytes quoted = {bytes.data + quote, bytes.length - quote};
  ParsedPacket inner;
  FlowKey inner_key;
  if (!ReadQuotedIp({quoted.data, quoted.length}, inner, inner_key)) return;  // was read before
  const uint8_t protocol = bytes.version() == 4 ? kProtocolIcmp : kProtocolIcmpv6;
  Put(end, packet, protocol, bytes);
  end.is_source = !end.is_source;
  const ChecksumUpdate change = Put(end, inner, inner_key.protocol, quoted);
  uint8_t* checksum = bytes.data + packet.transport_offset + offsetof(IcmpHeader, checksum);
  Write(checksum, change.Applied(Read<uint16_t>(checksum)));
}

// Puts one end of the packet, and, if it is an ICMP error, of the one it quotes.
[[gnu::always_inline]] inline void PutAll(const End& end, uint16_t quote,
                                          const ParsedPacket& packet, const FlowKey& key,
                                          IpBytes bytes) {
  if (quote != 0) return PutQuoted(end, quote, packet, bytes);
  Put(end, packet, key.protocol, bytes);
}

}  // namespace

void TranslateToBackend(const Adjacency& backend, uint16_t quote, const ParsedPacket& packet,
                        const FlowKey& key, IpBytes bytes) {
  PutAll({.is_source = false,
          .address = IpAddress::OfVersion(bytes.version(), backend.address),
          .port = NetworkOrder(backend.port)},
         quote, packet, key, bytes);
}

void TranslateFromBackend(const Service& service, const Backend& backend, uint16_t quote,
                          const ParsedPacket& packet, const FlowKey& key, IpBytes bytes) {
  // With a port of the backend's own, the service has one port.
  const uint16_t port = backend.port != 0 ? service.ports.front().first : 0;
  PutAll({.is_source = true, .address = service.vips.front().address, .port = NetworkOrder(port)},
         quote, packet, key, bytes);
}

}  // namespace guideway
