// One packet as people write it, and the frame that it means:
//
//   tcp 203.0.113.7:40000 > 198.51.100.10:80          an ACK; with «syn» behind it, a SYN
//   udp [2001:db8::7]:40000 > [2001:db8:100::10]:53   an IPv6 address with a port has brackets
//   icmp 203.0.113.7 > 198.51.100.10                  an echo request; so it is with IPv6
//
// White space around «>» may be left out. Several arguments of a command line are the text that
// they make with a space between each two. No I/O; safe from any thread.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PACKET_TEXT_H_
#define GUIDEWAY_DATAPLANE_PACKET_PACKET_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "maglev/flow_hash.h"
#include "maglev/net.h"

namespace guideway {

struct PacketText {
  enum class Kind { kTcp, kUdp, kIcmp };

  Kind kind = Kind::kTcp;
  IpAddress source, destination;  // of one family, which for kIcmp says ICMP or ICMPv6
  uint16_t source_port = 0;       // host order; 0 for kIcmp, else 1 to 65535
  uint16_t destination_port = 0;
  bool syn = false;  // kTcp alone

  // The error (kInvalidArgument) says what was found, where, and what is allowed. Which addresses
  // make sense is not asked here: a packet from 0.0.0.0 is one.
  static absl::StatusOr<PacketText> Parse(absl::string_view text);

  // Canonical: Parse makes the same of it. Addresses of IPv6 are in brackets, with a port or not.
  std::string ToString() const;

  // What names its connection in flow tables. Not of kIcmp, which has none.
  FlowKey Key() const;

  // An Ethernet frame from 02:00:00:00:00:02 to 02:00:00:00:00:01, lengths and checksums right:
  // TTL 64; IPv4 may not be fragmented and has identification 0; no payload, but 8 zeros in an
  // echo request. As a capture has it: not padded to Ethernet's minimum, without its checksum.
  std::vector<uint8_t> Frame() const;

  friend bool operator==(const PacketText&, const PacketText&) = default;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PACKET_TEXT_H_
