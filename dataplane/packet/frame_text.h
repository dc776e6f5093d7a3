// A frame as people read it: a line for each header, the outermost first.
//
//   Ethernet 02:00:00:00:00:01 > 02:00:00:00:00:fe, IPv4
//   IPv4 192.0.2.1 > 10.0.1.11, UDP, TTL 64, DF
//   UDP 57233 > 6080, checksum 0
//   GUE, IPv4 inside
//
// For frames that the packet path has made, without VLAN tags: reading ends where it meets others.
#ifndef GUIDEWAY_DATAPLANE_PACKET_FRAME_TEXT_H_
#define GUIDEWAY_DATAPLANE_PACKET_FRAME_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace guideway {

// The headers in front of the last `inner_length` bytes, which are the packet inside.
std::vector<std::string> OuterHeaders(absl::Span<const uint8_t> frame, size_t inner_length);

// All headers down to the transport.
std::vector<std::string> AllHeaders(absl::Span<const uint8_t> frame);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_FRAME_TEXT_H_
