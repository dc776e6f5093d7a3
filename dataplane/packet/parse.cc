#include "dataplane/packet/headers.h"
#include "dataplane/packet/stages.h"

namespace guideway {
namespace {

constexpr size_t kIcmpHeaderSize = 8;
constexpr size_t kMaxIpLength = 65535;

// Reads the ports and flags of the transport header at `p`, of which `length` bytes are there.
// False if it is malformed. A fragment's transport length is that of the whole packet, so only a
// packet that is not a fragment is held to it.
bool ParseTransport(const uint8_t* p, size_t length, ParsedPacket& packet, FlowKey& key) {
  if (key.protocol == kProtocolTcp) {
    if (length < sizeof(TcpHeader)) return false;
    const TcpHeader tcp = Read<TcpHeader>(p);
    const size_t header_length = (tcp.data_offset >> 4) * 4;
    if (header_length < sizeof(TcpHeader) || header_length > length) return false;
    key.source_port = tcp.source_port;
    key.destination_port = tcp.destination_port;
    packet.tcp_flags = tcp.flags;
    packet.has_payload = length > header_length;
  } else if (key.protocol == kProtocolUdp) {
    if (length < sizeof(UdpHeader)) return false;
    const UdpHeader udp = Read<UdpHeader>(p);
    const size_t udp_length = NetworkOrder(udp.length);
    if (udp_length < sizeof(UdpHeader) || (!packet.is_fragment && udp_length > length))
      return false;
    key.source_port = udp.source_port;
    key.destination_port = udp.destination_port;
    packet.has_payload = udp_length > sizeof(UdpHeader);
  } else if (key.protocol == kProtocolIcmp) {
    if (length < kIcmpHeaderSize) return false;
  }
  return true;
}

bool ParseIpv4(Frame& frame, ParsedPacket& packet, FlowKey& key) {
  const uint8_t* start = frame.data + packet.ip_offset;
  const size_t available = frame.length - packet.ip_offset;
  if (available < sizeof(Ipv4Header)) return false;
  const Ipv4Header ip = Read<Ipv4Header>(start);
  const size_t header_length = (ip.version_and_length & 0x0f) * 4;
  const size_t total_length = NetworkOrder(ip.total_length);
  if (ip.version_and_length >> 4 != 4 || header_length < sizeof(Ipv4Header) ||
      header_length > total_length || total_length > available) {
    return false;
  }
  if (!frame.ip_checksum_good && InternetChecksum(start, header_length) != 0) return false;

  const size_t fragment_offset = NetworkOrder(ip.fragment & kFragmentOffset) * 8;
  if (fragment_offset + total_length > kMaxIpLength) return false;  // once it is whole

  packet.ip_length = static_cast<uint16_t>(total_length);
  packet.tcp_flags = 0;
  packet.has_payload = false;
  packet.header_length = static_cast<uint8_t>(header_length);
  packet.is_later_fragment = fragment_offset != 0;
  packet.is_fragment = packet.is_later_fragment || (ip.fragment & kMoreFragments) != 0;
  packet.source = IpAddress::V4(ip.source);
  packet.destination = IpAddress::V4(ip.destination);
  if (packet.source.is_multicast() || packet.source.v4_word() == 0xffffffff) return false;

  key = FlowKey{};
  std::memcpy(key.source, ip.source, sizeof(ip.source));
  std::memcpy(key.destination, ip.destination, sizeof(ip.destination));
  key.protocol = ip.protocol;
  key.version = 4;
  if (!packet.is_later_fragment &&
      !ParseTransport(start + header_length, total_length - header_length, packet, key)) {
    return false;
  }
  // Padding of a short frame does not travel.
  frame.length = static_cast<uint32_t>(packet.ip_offset + total_length);
  return true;
}

}  // namespace

void Parse(Burst& burst) {
  burst.ForUndecided([&](uint8_t i) {
    Frame& frame = burst.frames[i];
    if (frame.length < sizeof(EthernetHeader)) return burst.Drop(i, Reason::kMalformed);
    if (Read<EthernetHeader>(frame.data).type != kEtherTypeIpv4) {
      return burst.Finish(i, Verdict::kPunt);
    }
    burst.packets[i].ip_offset = sizeof(EthernetHeader);
    if (!ParseIpv4(frame, burst.packets[i], burst.keys[i])) {
      return burst.Drop(i, Reason::kMalformed);
    }
    return true;
  });
}

}  // namespace guideway
