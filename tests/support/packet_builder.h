// Builds the frames that packet tests compare byte for byte: layer by layer, the outermost first,
// each a struct of the fields a test cares about with sensible values for the rest. Lengths and
// checksums are filled in unless a test sets them.
//
//   Bytes frame = Framed(Ipv4{}.With(Tcp{.flags = kTcpSyn}, {1, 2, 3}));
//   Bytes other = Ethernet{}.Around(Ipv4{.protocol = 47}.Around(Gre{}.Around(inner)));
//
// `With` knows the addresses, and so the checksum that goes over them; `Around` takes any bytes.
//
// Written apart from maglev/headers.h on purpose: an error there must not cancel out
// here.
#ifndef GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_
#define GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "maglev/net.h"

namespace guideway::testing {

using Bytes = std::vector<uint8_t>;

// «45 00 00 1c …», 16 bytes a line: what a failed comparison prints.
std::string Hex(const Bytes& bytes);

// The Internet checksum of `bytes`, odd lengths included, as a number.
uint16_t Checksum(const Bytes& bytes);

// All of `bytes` from `from` on, or `size` of them.
Bytes Slice(const Bytes& bytes, size_t from, size_t size = SIZE_MAX);
// One behind the other.
Bytes Joined(Bytes first, const Bytes& second);
// `size` bytes that all differ from their neighbours.
Bytes Counting(size_t size);
// The number in two bytes of a packet.
uint16_t Get16(const Bytes& bytes, size_t at);

struct Vlan {
  uint16_t type = 0x8100;
  uint16_t tag = 100;  // priority, then 12 bits of VLAN
};

struct Ethernet {
  const char* destination = "02:00:00:00:00:01";
  const char* source = "02:00:00:00:00:aa";
  uint16_t type = 0x0800;
  std::vector<Vlan> tags = {};  // the outermost first

  Bytes Around(const Bytes& payload) const;
};

// An IP packet in Ethernet as it comes in, of the type that its version says.
Bytes Framed(const Bytes& ip_packet, const std::vector<Vlan>& tags = {});

// --- transport: the checksum goes over a pseudo header, so it is filled in by With below. Around
// leaves a number there that is right by accident at most, for tests that do not care.

struct Tcp {
  static constexpr uint8_t kProtocol = 6;
  static constexpr size_t kChecksumAt = 16;
  uint16_t source_port = 40000;
  uint16_t destination_port = 80;
  uint8_t flags = 0x10;
  uint8_t header_words = 5;
  std::optional<uint16_t> checksum = {};

  Bytes Around(const Bytes& payload) const;
};

struct Udp {
  static constexpr uint8_t kProtocol = 17;
  static constexpr size_t kChecksumAt = 6;
  uint16_t source_port = 40000;
  uint16_t destination_port = 53;
  std::optional<uint16_t> length = {};
  std::optional<uint16_t> checksum = {};  // 0: none

  Bytes Around(const Bytes& payload) const;
};

struct Icmpv6 {
  static constexpr uint8_t kProtocol = 58;
  static constexpr size_t kChecksumAt = 2;
  uint8_t type = 128;
  uint8_t code = 0;
  uint32_t rest = 0x00070001;  // echo: identifier and sequence number; too big: MTU
  std::optional<uint16_t> checksum = {};

  Bytes Around(const Bytes& payload) const;
};

// ICMP of IPv4 needs no addresses.
struct Icmp {
  static constexpr uint8_t kProtocol = 1;
  uint8_t type = 8;
  uint8_t code = 0;
  uint32_t rest = 0x00070001;  // echo: identifier and sequence number; fragmentation needed: MTU
  std::optional<uint16_t> checksum = {};

  Bytes Around(const Bytes& payload) const;
};

// What TCP, UDP and ICMPv6 sum besides themselves (RFC 9293, RFC 768, RFC 8200 section 8.1).
Bytes PseudoHeader(const char* source, const char* destination, uint8_t protocol, size_t length);

// Puts the checksum of a transport over this pseudo header in its place, unless the test gave one.
// What would be 0 is sent as 0xffff.
template <typename Transport>
Bytes Summed(const char* source, const char* destination, const Transport& transport,
             const Bytes& payload) {
  Bytes bytes = transport.Around(payload);
  if (transport.checksum.has_value()) return bytes;
  bytes[Transport::kChecksumAt] = bytes[Transport::kChecksumAt + 1] = 0;
  uint16_t sum = Checksum(
      Joined(PseudoHeader(source, destination, Transport::kProtocol, bytes.size()), bytes));
  if (sum == 0 && Transport::kProtocol == 17) sum = 0xffff;
  bytes[Transport::kChecksumAt] = static_cast<uint8_t>(sum >> 8);
  bytes[Transport::kChecksumAt + 1] = static_cast<uint8_t>(sum);
  return bytes;
}

// --- IP

struct Ipv4 {
  const char* source = "203.0.113.7";
  const char* destination = "198.51.100.10";
  uint8_t protocol = 6;
  uint8_t version = 4;
  uint8_t tos = 0;
  uint8_t ttl = 57;
  uint16_t identification = 0x1234;
  bool dont_fragment = true;
  bool more_fragments = false;
  uint16_t fragment_offset = 0;  // in units of 8 bytes
  Bytes options = {};            // a multiple of 4 bytes
  std::optional<uint8_t> header_words = {};
  std::optional<uint16_t> total_length = {};
  std::optional<uint16_t> checksum = {};

  Bytes Around(const Bytes& payload) const;
  // Around a transport of the right protocol and checksum.
  template <typename Transport>
  Bytes With(const Transport& transport, const Bytes& payload = {}) const {
    Ipv4 ip = *this;
    ip.protocol = Transport::kProtocol;
    return ip.Around(Summed(source, destination, transport, payload));
  }
  Bytes With(const Icmp& icmp, const Bytes& payload = {}) const {
    Ipv4 ip = *this;
    ip.protocol = Icmp::kProtocol;
    return ip.Around(icmp.Around(payload));
  }
};

// An IPv6 extension header but for its first byte, which says what comes next.
struct Extension {
  uint8_t type;
  Bytes rest;
};
// `units`: of 8 bytes, beyond the first. Of any header that counts its length so: 0 hop-by-hop
// options, 43 routing (no segments left), 60 destination options, 135, 139, 140.
Extension ExtensionHeader(uint8_t type, uint8_t units = 0);
// Its length counts 4 bytes, less two; it has 12 + `value_size` bytes.
Extension AuthenticationHeader(size_t value_size = 12);
// `offset` in units of 8 bytes.
Extension FragmentHeader(uint16_t offset, bool more, uint32_t identification = 0x12345678);

struct Ipv6 {
  const char* source = "2001:db8:c::7";
  const char* destination = "2001:db8:10::10";
  uint8_t next_header = 6;  // behind the extension headers
  uint8_t version = 6;
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
  uint8_t hop_limit = 57;
  std::vector<Extension> extensions = {};
  std::optional<uint16_t> payload_length = {};

  Bytes Around(const Bytes& payload) const;
  template <typename Transport>
  Bytes With(const Transport& transport, const Bytes& payload = {}) const {
    Ipv6 ip = *this;
    ip.next_header = Transport::kProtocol;
    return ip.Around(Summed(source, destination, transport, payload));
  }
};

// --- tunnels, between the outer IP header and the inner packet. `Udp` stands before the last two.

// RFC 2784, without its optional fields.
struct Gre {
  uint16_t protocol = 0x0800;
  Bytes Around(const Bytes& inner) const;
};

// draft-ietf-intarea-gue, variant 0.
struct Gue {
  uint8_t protocol = 4;
  Bytes Around(const Bytes& inner) const;
};

// RFC 7348; `frame` has an Ethernet header.
struct Vxlan {
  uint32_t vni = 0x123456;
  Bytes Around(const Bytes& frame) const;
};

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_
