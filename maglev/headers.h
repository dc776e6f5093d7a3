// Headers as they lie on the wire, and the Internet checksum. Fields of more than one byte are in
// network order. A header may start at any address.
//
// HeaderAt is the header where it lies. Where a packet passes by the million its fields are read
// and written there one by one, and sums are taken of the values: to put a header together in a
// variable and copy it (Write), or to sum what has just been written, is to wait until narrow
// stores have reached the cache before one wide load can have them.
#ifndef GUIDEWAY_MAGLEV_HEADERS_H_
#define GUIDEWAY_MAGLEV_HEADERS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "maglev/net.h"

namespace guideway {

// Between network and host order; its own inverse.
constexpr uint16_t NetworkOrder(uint16_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap16(v) : v;
}
constexpr uint32_t NetworkOrder32(uint32_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap32(v) : v;
}
constexpr uint64_t NetworkOrder64(uint64_t v) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(v) : v;
}

struct [[gnu::packed, gnu::may_alias]] EthernetHeader {
  MacAddress destination;
  MacAddress source;
  uint16_t type;
};
static_assert(sizeof(EthernetHeader) == 14);
inline constexpr uint16_t kEtherTypeIpv4 = NetworkOrder(0x0800);
inline constexpr uint16_t kEtherTypeIpv6 = NetworkOrder(0x86dd);

// A VLAN tag stands before the type: its own type, then priority and VLAN (IEEE 802.1Q). QinQ
// (802.1ad) is two of them.
inline constexpr size_t kVlanTagSize = 4;
inline constexpr uint16_t kEtherTypeVlan = NetworkOrder(0x8100);
inline constexpr uint16_t kEtherTypeQinq = NetworkOrder(0x88a8);
inline constexpr uint16_t kEtherTypeOldQinq = NetworkOrder(0x9100);

inline constexpr uint32_t kMaxIpLength = 65535;

// RFC 791, section 3.1.
struct [[gnu::packed, gnu::may_alias]] Ipv4Header {
  uint8_t version_and_length;  // 4 bits each; the length counts 32-bit words
  uint8_t type_of_service;     // DSCP, then 2 bits of ECN
  uint16_t total_length;
  uint16_t identification;
  uint16_t fragment;  // flags (3 bits) and offset in units of 8 bytes
  uint8_t time_to_live;
  uint8_t protocol;
  uint16_t checksum;
  uint8_t source[4];
  uint8_t destination[4];
};
static_assert(sizeof(Ipv4Header) == 20);
inline constexpr uint16_t kDontFragment = NetworkOrder(0x4000);
inline constexpr uint16_t kMoreFragments = NetworkOrder(0x2000);
inline constexpr uint16_t kFragmentOffset = NetworkOrder(0x1fff);

// RFC 8200, section 3.
struct [[gnu::packed, gnu::may_alias]] Ipv6Header {
  uint32_t version_class_label;  // 4 bits, 8 bits (DSCP, ECN), 20 bits
  uint16_t payload_length;       // all that follows this header
  uint8_t next_header;
  uint8_t hop_limit;
  uint8_t source[16];
  uint8_t destination[16];
};
static_assert(sizeof(Ipv6Header) == 40);

// RFC 8200, section 4.5.
struct [[gnu::packed, gnu::may_alias]] Ipv6FragmentHeader {
  uint8_t next_header;
  uint8_t reserved;
  uint16_t offset_and_more;  // offset in units of 8 bytes (13 bits), 2 bits, M
  uint32_t identification;
};
static_assert(sizeof(Ipv6FragmentHeader) == 8);
inline constexpr uint16_t kMoreFragmentsIpv6 = NetworkOrder(0x0001);

// Protocol and next header numbers (IANA).
inline constexpr uint8_t kProtocolHopByHop = 0;
inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolIpv4 = 4;  // inside another IP: RFC 2003, RFC 2473
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolIpv6 = 41;
inline constexpr uint8_t kProtocolRouting = 43;
inline constexpr uint8_t kProtocolFragment = 44;
inline constexpr uint8_t kProtocolGre = 47;
inline constexpr uint8_t kProtocolAuthentication = 51;
inline constexpr uint8_t kProtocolIcmpv6 = 58;
inline constexpr uint8_t kProtocolDestinationOptions = 60;
inline constexpr uint8_t kProtocolMobility = 135;
inline constexpr uint8_t kProtocolHip = 139;
inline constexpr uint8_t kProtocolShim6 = 140;

// RFC 9293, section 3.1.
struct [[gnu::packed, gnu::may_alias]] TcpHeader {
  uint16_t source_port;
  uint16_t destination_port;
  uint32_t sequence;
  uint32_t acknowledgement;
  uint8_t data_offset;  // upper 4 bits: length of the header in 32-bit words
  uint8_t flags;
  uint16_t window;
  uint16_t checksum;
  uint16_t urgent;
};
static_assert(sizeof(TcpHeader) == 20);
inline constexpr uint8_t kTcpFin = 0x01;
inline constexpr uint8_t kTcpSyn = 0x02;
inline constexpr uint8_t kTcpRst = 0x04;
inline constexpr uint8_t kTcpAck = 0x10;

// RFC 768.
struct [[gnu::packed, gnu::may_alias]] UdpHeader {
  uint16_t source_port;
  uint16_t destination_port;
  uint16_t length;
  uint16_t checksum;
};
static_assert(sizeof(UdpHeader) == 8);

// RFC 792 and RFC 4443: all messages that matter here begin so.
struct [[gnu::packed, gnu::may_alias]] IcmpHeader {
  uint8_t type;
  uint8_t code;
  uint16_t checksum;
  uint16_t rest[2];  // echo: identifier, sequence number; fragmentation needed: 0, MTU
};
static_assert(sizeof(IcmpHeader) == 8);
inline constexpr uint8_t kIcmpEchoReply = 0;
inline constexpr uint8_t kIcmpUnreachable = 3;
inline constexpr uint8_t kIcmpFragmentationNeeded = 4;  // code of kIcmpUnreachable
inline constexpr uint8_t kIcmpSourceQuench = 4;
inline constexpr uint8_t kIcmpEcho = 8;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpParameterProblem = 12;
inline constexpr uint8_t kIcmpv6TooBig = 2;           // the MTU is 32 bits of `rest`
inline constexpr uint8_t kIcmpv6Informational = 128;  // and above; types below are errors
inline constexpr uint8_t kIcmpv6Echo = 128;
inline constexpr uint8_t kIcmpv6EchoReply = 129;

// RFC 2784 without the optional checksum.
struct [[gnu::packed, gnu::may_alias]] GreHeader {
  uint16_t flags_and_version;
  uint16_t protocol;  // an EtherType
};
static_assert(sizeof(GreHeader) == 4);

// draft-ietf-intarea-gue, variant 0, without optional fields.
struct [[gnu::packed, gnu::may_alias]] GueHeader {
  uint8_t variant_and_length;  // 2 bits, C, length of optional fields in 32-bit words
  uint8_t protocol;
  uint16_t flags;
};
static_assert(sizeof(GueHeader) == 4);

// Source ports of tunnels in UDP are from here up: the dynamic ports of RFC 6335, section 6.
inline constexpr uint16_t kFirstTunnelPort = 49152;

// RFC 7348, section 5.
struct [[gnu::packed, gnu::may_alias]] VxlanHeader {
  uint32_t flags;
  uint32_t vni;  // 24 bits, then 8 reserved
};
static_assert(sizeof(VxlanHeader) == 8);
inline constexpr uint32_t kVxlanValidVni = NetworkOrder32(0x08000000);

// The header at `p`.
template <typename Header>
Header& HeaderAt(uint8_t* p) {
  return *reinterpret_cast<Header*>(p);
}
template <typename Header>
const Header& HeaderAt(const uint8_t* p) {
  return *reinterpret_cast<const Header*>(p);
}

// A copy of it.
template <typename Header>
Header Read(const uint8_t* p) {
  Header header;
  std::memcpy(&header, p, sizeof(header));
  return header;
}

template <typename Header>
void Write(uint8_t* p, const Header& header) {
  std::memcpy(p, &header, sizeof(header));
}

// The addresses of the IP packet at `ip`.
inline IpAddress SourceOf(const uint8_t* ip) {
  return ip[0] >> 4 == 4 ? IpAddress::V4(ip + offsetof(Ipv4Header, source))
                         : IpAddress::V6(ip + offsetof(Ipv6Header, source));
}
inline IpAddress DestinationOf(const uint8_t* ip) {
  return ip[0] >> 4 == 4 ? IpAddress::V4(ip + offsetof(Ipv4Header, destination))
                         : IpAddress::V6(ip + offsetof(Ipv6Header, destination));
}

// Sums of the Internet checksum (RFC 1071): 16-bit words as they lie in memory, in ones' complement
// arithmetic, in which wider words may be added just as well. An odd last byte counts as the first
// of a word.
inline uint64_t WideSumOf(const void* data, size_t size, uint32_t sum = 0) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  uint64_t wide = sum;
  const auto add = [&](uint64_t word) {
    const bool carry = __builtin_add_overflow(wide, word, &wide);
    wide += carry;
  };
  for (; size >= 8; bytes += 8, size -= 8) add(Read<uint64_t>(bytes));
  if (size >= 4) {
    add(Read<uint32_t>(bytes));
    bytes += 4, size -= 4;
  }
  if (size >= 2) add(Read<uint16_t>(bytes));
  if (size % 2 == 1) add(NetworkOrder(static_cast<uint16_t>(bytes[size - 1] << 8)));
  return wide;
}
// Folded: the upper half is added to the lower, and the carry to that. Both stand in the upper half
// of what a sum and the same with its halves swapped add up to.
inline uint32_t HalfOf(uint64_t sum) {
  return static_cast<uint32_t>((sum + std::rotl(sum, 32)) >> 32);
}
inline uint16_t FoldedSum(uint32_t sum) {
  return static_cast<uint16_t>((sum + std::rotl(sum, 16)) >> 16);
}
inline uint16_t FoldedSum(uint64_t sum) { return FoldedSum(HalfOf(sum)); }
inline uint32_t SumOf(const void* data, size_t size, uint32_t sum = 0) {
  return HalfOf(WideSumOf(data, size, sum));
}

// Whether data with this sum, their checksum among them, are undamaged.
inline bool IsSumOfGoodData(uint64_t sum) { return sum % 0xffff == 0; }

// The checksum of `size` bytes, to be stored as it is. Over bytes that hold their right checksum it
// is 0.
inline uint16_t InternetChecksum(const void* data, size_t size) {
  return static_cast<uint16_t>(~FoldedSum(SumOf(data, size)));
}

// The sum of a pseudo header: of TCP and UDP over both (RFC 9293, RFC 768), and of all over IPv6
// (RFC 8200, section 8.1). Addresses are of 4 or 16 bytes.
inline uint32_t PseudoHeaderSum(const void* source, const void* destination, size_t address_size,
                                uint8_t protocol, uint32_t length) {
  uint32_t sum = SumOf(source, address_size);
  sum = SumOf(destination, address_size, sum);
  const uint64_t tail = uint64_t{NetworkOrder32(length)} << 32 | NetworkOrder32(protocol);
  return SumOf(&tail, sizeof(tail), sum);
}

// What changes under a checksum, so that it can be corrected without reading the rest (RFC 1624,
// equation 3).
class ChecksumUpdate {
 public:
  // Puts `size` bytes in the place of those at `at`. Both an even number of bytes from the start
  // of what is summed, and `size` even.
  void Replace(uint8_t* at, const void* with, size_t size) {
    const uint8_t* from = static_cast<const uint8_t*>(with);
    for (size_t i = 0; i < size; i += 2) {
      const uint16_t was = Read<uint16_t>(at + i);
      const uint16_t is = Read<uint16_t>(from + i);
      sum_ += static_cast<uint16_t>(~was) + uint32_t{is};
    }
    std::memcpy(at, with, size);
  }
  void Add(const ChecksumUpdate& other) { sum_ += FoldedSum(other.sum_); }
  uint16_t Applied(uint16_t checksum) const {
    return static_cast<uint16_t>(
        ~FoldedSum(static_cast<uint16_t>(~checksum) + uint32_t{FoldedSum(sum_)}));
  }

 private:
  uint32_t sum_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_HEADERS_H_
