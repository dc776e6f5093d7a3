// What stages ask about the headers of one IP packet: a received one, or one that an ICMP error
// quotes.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PARSE_H_
#define GUIDEWAY_DATAPLANE_PACKET_PARSE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/packet/burst.h"
#include "maglev/headers.h"

namespace guideway {

// IPv6 extension headers in one packet, the fragment header included.
inline constexpr int kMaxExtensionHeaders = 8;

// Reads the IPv4 header with its options, or the IPv6 header with its extension headers, of a
// packet that an ICMP error quotes: it may end anywhere behind them, and the checksum of its header
// is not looked at. Writes what `packet` says of IP, but for ip_offset, and of `key` addresses,
// protocol and version. False if it is malformed.
bool ReadQuotedIp(std::span<const uint8_t> bytes, ParsedPacket& packet, FlowKey& key);

// Which protocols carry an ICMP of that version.
inline bool IsIcmp(const FlowKey& key) {
  return key.protocol == (key.version == 4 ? kProtocolIcmp : kProtocolIcmpv6);
}

// A type that reports an error about the packet that it quotes.
inline bool IsIcmpError(const FlowKey& key, uint8_t type) {
  if (!IsIcmp(key)) return false;
  if (key.version == 6) return type != 0 && type < kIcmpv6Informational;
  return type == kIcmpUnreachable || type == kIcmpSourceQuench || type == kIcmpTimeExceeded ||
         type == kIcmpParameterProblem;
}

// Of a whole ICMP or ICMPv6 message in the IP packet at `ip`; others have none. It covers the
// message to its end, so it is looked at only where it matters.
bool HasWrongIcmpChecksum(const uint8_t* ip, const ParsedPacket& packet, const FlowKey& key);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PARSE_H_
