#include <algorithm>

#include "dataplane/packet/rewrite.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

constexpr uint8_t kTimeToLive = 64;
constexpr uint32_t kLargestErrorIpv4 = 576;   // RFC 1812, section 4.3.2.3
constexpr uint32_t kLargestErrorIpv6 = 1280;  // RFC 4443, section 2.4
constexpr uint8_t kDscp = 0xfc;               // the rest is ECN, which ICMP has none of

// Puts an IP header in front of an ICMP message: back from a packet's destination to its source.
IpBytes Return(const IpAddress& source, const IpAddress& destination, uint8_t traffic_class,
               IpBytes icmp) {
  if (source.is_v4()) {
    const uint32_t length = icmp.length + static_cast<uint32_t>(sizeof(Ipv4Header));
    Ipv4Header ip = {.version_and_length = 0x45,
                     .type_of_service = traffic_class,
                     .total_length = NetworkOrder(static_cast<uint16_t>(length)),
                     .fragment = kDontFragment,
                     .time_to_live = kTimeToLive,
                     .protocol = kProtocolIcmp};
    std::memcpy(ip.source, destination.bytes(), sizeof(ip.source));
    std::memcpy(ip.destination, source.bytes(), sizeof(ip.destination));
    ip.checksum = InternetChecksum(&ip, sizeof(ip));
    Write(icmp.data - sizeof(ip), ip);
    return {icmp.data - sizeof(ip), length};
  }
  Ipv6Header ip = {
      .version_class_label = NetworkOrder32(uint32_t{6} << 28 | uint32_t{traffic_class} << 20),
      .payload_length = NetworkOrder(static_cast<uint16_t>(icmp.length)),
      .next_header = kProtocolIcmpv6,
      .hop_limit = kTimeToLive};
  std::memcpy(ip.source, destination.bytes(), sizeof(ip.source));
  std::memcpy(ip.destination, source.bytes(), sizeof(ip.destination));
  Write(icmp.data - sizeof(ip), ip);
  return {icmp.data - sizeof(ip), icmp.length + static_cast<uint32_t>(sizeof(ip))};
}

}  // namespace

IpBytes EchoReply(const ParsedPacket& packet, IpBytes bytes) {
  // RFC 1122, section 3.2.2: in the request's class of service.
  const uint8_t traffic_class = bytes.version() == 4
                                    ? bytes.data[1]
                                    : static_cast<uint8_t>(bytes.data[0] << 4 | bytes.data[1] >> 4);
  const IpBytes icmp = {bytes.data + packet.transport_offset, packet.transport_length()};
  ChecksumUpdate change;  // the pseudo header's sum is the same both ways
  const uint8_t type_and_code[2] = {bytes.version() == 4 ? kIcmpEchoReply : kIcmpv6EchoReply,
                                    icmp.data[1]};
  change.Replace(icmp.data, type_and_code, sizeof(type_and_code));
  uint8_t* checksum = icmp.data + offsetof(IcmpHeader, checksum);
  uint16_t corrected = change.Applied(Read<uint16_t>(checksum));
  if (corrected == 0 && bytes.version() == 4) {
    // It may be 0xffff: that of nothing but zeros, which no difference can tell.
    Write(checksum, corrected);
    corrected = InternetChecksum(icmp.data, icmp.length);
  }
  Write(checksum, corrected);
  return Return(SourceOf(bytes.data), DestinationOf(bytes.data), traffic_class & kDscp, icmp);
}

IpBytes PacketTooBig(uint32_t mtu, IpBytes bytes) {
  const IpAddress source = SourceOf(bytes.data), destination = DestinationOf(bytes.data);
  const bool is_v4 = source.is_v4();
  const uint32_t around =
      static_cast<uint32_t>(sizeof(IcmpHeader) + (is_v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header)));
  const uint32_t quoted =
      std::min(bytes.length, (is_v4 ? kLargestErrorIpv4 : kLargestErrorIpv6) - around);
  const IpBytes icmp = {bytes.data - sizeof(IcmpHeader),
                        quoted + static_cast<uint32_t>(sizeof(IcmpHeader))};
  IcmpHeader header = {.type = is_v4 ? kIcmpUnreachable : kIcmpv6TooBig,
                       .code = is_v4 ? kIcmpFragmentationNeeded : uint8_t{0},
                       .checksum = 0,
                       .rest = {NetworkOrder(static_cast<uint16_t>(mtu >> 16)),
                                NetworkOrder(static_cast<uint16_t>(mtu))}};
  Write(icmp.data, header);
  uint32_t sum = 0;
  if (!is_v4) {
    sum = PseudoHeaderSum(source.bytes(), destination.bytes(), 16, kProtocolIcmpv6, icmp.length);
  }
  header.checksum = static_cast<uint16_t>(~FoldedSum(SumOf(icmp.data, icmp.length, sum)));
  Write(icmp.data, header);
  return Return(source, destination, 0, icmp);
}

}  // namespace guideway
