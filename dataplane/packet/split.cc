#include "dataplane/packet/rewrite.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

constexpr size_t kLargestIpv4Header = 60;

// How much of what is left of a payload goes into one fragment: all that fits if it is the last
// (RFC 791, section 3.2), else units of eight bytes.
uint32_t Share(uint32_t mtu, uint32_t header, uint32_t left) {
  const uint32_t most = mtu - header;
  return left <= most ? left : most / 8 * 8;
}

// The header of fragments behind the first: of its options those alone that say so (RFC 791,
// section 3.1, «copied flag»). Returns its size.
uint32_t CopyHeader(const uint8_t* first, uint32_t size, uint8_t* later) {
  std::memcpy(later, first, sizeof(Ipv4Header));
  uint32_t end = sizeof(Ipv4Header);
  for (uint32_t at = sizeof(Ipv4Header); at < size;) {
    const uint8_t type = first[at];
    if (type == 0) break;  // end of the list
    if (type == 1) {       // filler of one byte
      ++at;
      continue;
    }
    const uint32_t length = at + 1 < size ? first[at + 1] : 0;
    if (length < 2 || at + length > size) break;
    if ((type & 0x80) != 0) {
      std::memcpy(later + end, first + at, length);
      end += length;
    }
    at += length;
  }
  while (end % 4 != 0) later[end++] = 0;
  later[0] = static_cast<uint8_t>(0x40 | end / 4);
  return end;
}

void FinishIpv4(uint8_t* header, uint32_t header_size, uint32_t payload, uint32_t offset,
                bool more) {
  auto ip = Read<Ipv4Header>(header);
  ip.total_length = NetworkOrder(static_cast<uint16_t>(header_size + payload));
  ip.fragment = NetworkOrder(static_cast<uint16_t>(offset / 8));
  if (more) ip.fragment |= kMoreFragments;
  ip.checksum = 0;
  Write(header, ip);
  ip.checksum = InternetChecksum(header, header_size);
  Write(header, ip);
}

IpBytes SplitIpv4(IpBytes packet, uint32_t mtu, uint32_t link_size, uint8_t index,
                  RewriteState& state) {
  const auto ip = Read<Ipv4Header>(packet.data);
  const uint32_t header_size = (ip.version_and_length & 0x0f) * 4u;
  const uint32_t offset = NetworkOrder(ip.fragment & kFragmentOffset) * 8u;
  const bool more = (ip.fragment & kMoreFragments) != 0;
  uint8_t later[kLargestIpv4Header];
  const uint32_t later_size = CopyHeader(packet.data, header_size, later);

  const uint32_t payload = packet.length - header_size;
  const uint32_t first = Share(mtu, header_size, payload);
  for (uint32_t at = first; at < payload;) {
    const uint32_t share = Share(mtu, later_size, payload - at);
    uint8_t* frame = state.Add(index, link_size + later_size + share);
    if (frame == nullptr) return {packet.data, 0};
    uint8_t* header = frame + link_size;
    std::memcpy(header, later, later_size);
    std::memcpy(header + later_size, packet.data + header_size + at, share);
    FinishIpv4(header, later_size, share, offset + at, more || at + share < payload);
    at += share;
  }
  FinishIpv4(packet.data, header_size, first, offset, true);
  return {packet.data, header_size + first};
}

void WriteIpv6Fragment(Ipv6Header ip, uint32_t payload, uint32_t offset, bool more,
                       uint32_t identification, uint8_t* at) {
  const Ipv6FragmentHeader fragment = {
      .next_header = ip.next_header,
      .offset_and_more = static_cast<uint16_t>(NetworkOrder(static_cast<uint16_t>(offset)) |
                                               (more ? kMoreFragmentsIpv6 : 0)),
      .identification = NetworkOrder32(identification)};
  ip.next_header = kProtocolFragment;
  ip.payload_length = NetworkOrder(static_cast<uint16_t>(sizeof(fragment) + payload));
  Write(at, ip);
  Write(at + sizeof(ip), fragment);
}

IpBytes SplitIpv6(IpBytes packet, uint32_t mtu, uint32_t identification, uint32_t link_size,
                  uint8_t index, RewriteState& state) {
  constexpr uint32_t kHeaders = sizeof(Ipv6Header) + sizeof(Ipv6FragmentHeader);
  const auto ip = Read<Ipv6Header>(packet.data);
  const uint8_t* bytes = packet.data + sizeof(ip);
  const uint32_t payload = packet.length - static_cast<uint32_t>(sizeof(ip));
  const uint32_t first = Share(mtu, kHeaders, payload);
  for (uint32_t at = first; at < payload;) {
    const uint32_t share = Share(mtu, kHeaders, payload - at);
    uint8_t* frame = state.Add(index, link_size + kHeaders + share);
    if (frame == nullptr) return {packet.data, 0};
    uint8_t* header = frame + link_size;
    WriteIpv6Fragment(ip, share, at, at + share < payload, identification, header);
    std::memcpy(header + kHeaders, bytes + at, share);
    at += share;
  }
  uint8_t* start = packet.data - sizeof(Ipv6FragmentHeader);
  WriteIpv6Fragment(ip, first, 0, true, identification, start);
  return {start, kHeaders + first};
}

}  // namespace

IpBytes Split(IpBytes packet, uint32_t mtu, uint32_t identification, uint32_t link_size,
              uint8_t index, RewriteState& state) {
  return packet.version() == 4 ? SplitIpv4(packet, mtu, link_size, index, state)
                               : SplitIpv6(packet, mtu, identification, link_size, index, state);
}

}  // namespace guideway
