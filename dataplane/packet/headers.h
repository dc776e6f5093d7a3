// Headers as they lie on the wire, and the Internet checksum. Fields of more than one byte are in
// network order. A header may start at any address: Read and Write copy it.
#ifndef GUIDEWAY_DATAPLANE_PACKET_HEADERS_H_
#define GUIDEWAY_DATAPLANE_PACKET_HEADERS_H_

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

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  uint16_t type;
};
static_assert(sizeof(EthernetHeader) == 14);
inline constexpr uint16_t kEtherTypeIpv4 = NetworkOrder(0x0800);

// RFC 791, section 3.1.
struct Ipv4Header {
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

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolIpip = 4;  // RFC 2003
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;

// RFC 9293, section 3.1.
struct TcpHeader {
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
struct UdpHeader {
  uint16_t source_port;
  uint16_t destination_port;
  uint16_t length;
  uint16_t checksum;
};
static_assert(sizeof(UdpHeader) == 8);

// A copy of the header at `p`.
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

// The Internet checksum (RFC 1071) of `size` bytes, at most 64 KiB: to be stored as it is. Over
// bytes that hold their right checksum it is 0.
inline uint16_t InternetChecksum(const void* data, size_t size) {
  uint32_t sum = 0;
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  for (; size >= 2; bytes += 2, size -= 2) sum += Read<uint16_t>(bytes);
  if (size == 1) sum += NetworkOrder(static_cast<uint16_t>(*bytes << 8));
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_HEADERS_H_
