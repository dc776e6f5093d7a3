// Addresses, prefixes, MACs and transport protocols as small values: what a configuration writes
// and what a packet carries, in one form that both sides compare and hash.
//
// Everything here is a regular type (copy, compare, hash with absl), has no invalid state but the
// default-constructed «none» of IpAddress, and keeps its bytes in network order, as on the wire.
// Safe from any thread.
#ifndef GUIDEWAY_MAGLEV_NET_H_
#define GUIDEWAY_MAGLEV_NET_H_

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace guideway {

// An IPv4 or IPv6 address, or none. An IPv4 address is its 4 bytes, then 12 zero bytes: it never
// equals an IPv6 address, mapped ones (::ffff:0:0/96) included.
class IpAddress {
 public:
  constexpr IpAddress() = default;

  // From the 4 or 16 bytes of a header.
  static IpAddress V4(const void* bytes) { return IpAddress(kV4, bytes, 4); }
  static IpAddress V6(const void* bytes) { return IpAddress(kV6, bytes, 16); }

  // «192.0.2.1» or «2001:db8::1» (RFC 4291 section 2.2; no zone, no brackets).
  static absl::StatusOr<IpAddress> Parse(absl::string_view text);

  bool is_none() const { return family_ == kNone; }
  bool is_v4() const { return family_ == kV4; }
  bool is_v6() const { return family_ == kV6; }
  // 32, 128, or 0 for none.
  int bits() const { return family_ == kV4 ? 32 : family_ == kV6 ? 128 : 0; }
  // Network order; 4 of them mean something for IPv4.
  const uint8_t* bytes() const { return bytes_.data(); }
  // The four bytes of an IPv4 address as they lie in memory (not the host's number).
  uint32_t v4_word() const {
    uint32_t word;
    std::memcpy(&word, bytes_.data(), sizeof(word));
    return word;
  }

  // IPv4 224.0.0.0/4 and IPv6 ff00::/8.
  bool is_multicast() const;
  // IPv4 169.254.0.0/16 and IPv6 fe80::/10.
  bool is_link_local() const;
  // IPv4 127.0.0.0/8 and IPv6 ::1.
  bool is_loopback() const;
  // Canonical text (IPv6: RFC 5952); «none» for none.
  std::string ToString() const;

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const IpAddress& a) {
    return H::combine(std::move(h), a.family_, a.bytes_);
  }

 private:
  enum Family : uint8_t { kNone = 0, kV4 = 4, kV6 = 6 };
  IpAddress(Family family, const void* bytes, size_t size) : family_(family) {
    std::memcpy(bytes_.data(), bytes, size);
  }

  Family family_ = kNone;
  std::array<uint8_t, 16> bytes_ = {};
};

// An address and how many of its leading bits count. Host bits are zero: Parse refuses others.
struct Prefix {
  IpAddress address;
  int length = 0;  // 0 to 32, or 0 to 128

  // «10.0.0.0/8», «2001:db8::/32», or a bare address for its /32 or /128. «10.0.0.1/8» is refused,
  // and the error names what was probably meant.
  static absl::StatusOr<Prefix> Parse(absl::string_view text);
  // The prefix of that length around an address, which is not none.
  static Prefix Of(const IpAddress& address, int length);

  bool Contains(const IpAddress& a) const;
  bool is_host() const { return length == address.bits(); }
  // A host prefix prints as its bare address.
  std::string ToString() const;

  friend auto operator<=>(const Prefix&, const Prefix&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Prefix& p) {
    return H::combine(std::move(h), p.address, p.length);
  }
};

// A 48-bit Ethernet address.
struct MacAddress {
  std::array<uint8_t, 6> bytes = {};

  // «02:00:00:00:00:01»: six pairs of hexadecimal digits.
  static absl::StatusOr<MacAddress> Parse(absl::string_view text);
  std::string ToString() const;
  bool is_multicast() const { return (bytes[0] & 1) != 0; }
  bool is_zero() const { return bytes == std::array<uint8_t, 6>{}; }

  friend auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

// The transport protocol of a service or a packet: the number of the IP header (IANA), or kAny.
enum class Protocol : uint8_t { kAny = 0, kTcp = 6, kUdp = 17 };

// TCP or UDP ports, both ends included, in host order.
struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;

  bool Contains(uint16_t port) const { return first <= port && port <= last; }
  friend auto operator<=>(const PortRange&, const PortRange&) = default;
};

// «tcp», «udp», «any».
absl::string_view ProtocolName(Protocol protocol);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_NET_H_
