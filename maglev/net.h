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
//
// Two words and a byte, 17 bytes at any alignment: it is copied and compared by word, and small
// where it lies in the packet path's tables.
class [[gnu::packed]] IpAddress {
 public:
  constexpr IpAddress() = default;

  // From the 4 or 16 bytes of a header.
  static IpAddress V4(const void* bytes) {
    uint32_t word;
    std::memcpy(&word, bytes, sizeof(word));
    return IpAddress(kV4, word, 0);
  }
  static IpAddress V6(const void* bytes) { return OfVersion(6, bytes); }
  // `version` is 4 or 6; of 16 bytes, in which those of an IPv4 address stand first, then zeros.
  static IpAddress OfVersion(uint8_t version, const void* bytes) {
    uint64_t words[2];
    std::memcpy(words, bytes, sizeof(words));
    return IpAddress(static_cast<Family>(version), words[0], words[1]);
  }

  // «192.0.2.1» or «2001:db8::1» (RFC 4291 section 2.2; no zone, no brackets).
  static absl::StatusOr<IpAddress> Parse(absl::string_view text);

  bool is_none() const { return family_ == kNone; }
  bool is_v4() const { return family_ == kV4; }
  bool is_v6() const { return family_ == kV6; }
  // 32, 128, or 0 for none.
  int bits() const { return family_ == kV4 ? 32 : family_ == kV6 ? 128 : 0; }
  // Network order; 4 of them mean something for IPv4.
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(this); }
  // The four bytes of an IPv4 address as they lie in memory (not the host's number).
  uint32_t v4_word() const { return static_cast<uint32_t>(first_); }

  // IPv4 224.0.0.0/4 and IPv6 ff00::/8.
  bool is_multicast() const {
    return family_ == kV4 ? (bytes()[0] & 0xf0) == 0xe0 : family_ == kV6 && bytes()[0] == 0xff;
  }
  // IPv4 169.254.0.0/16 and IPv6 fe80::/10.
  bool is_link_local() const {
    if (family_ == kV4) return bytes()[0] == 169 && bytes()[1] == 254;
    return family_ == kV6 && bytes()[0] == 0xfe && (bytes()[1] & 0xc0) == 0x80;
  }
  // IPv4 127.0.0.0/8 and IPv6 ::1.
  bool is_loopback() const;
  // Canonical text (IPv6: RFC 5952); «none» for none.
  std::string ToString() const;

  friend bool operator==(const IpAddress& a, const IpAddress& b) {
    return a.first_ == b.first_ && a.second_ == b.second_ && a.family_ == b.family_;
  }
  // None, then IPv4 and IPv6 addresses, each by their bytes.
  friend std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b) {
    if (a.family_ != b.family_) return a.family_ <=> b.family_;
    return std::memcmp(&a, &b, 16) <=> 0;
  }
  template <typename H>
  friend H AbslHashValue(H h, const IpAddress& a) {
    return H::combine(std::move(h), uint64_t{a.first_}, uint64_t{a.second_}, uint8_t{a.family_});
  }

  // Two multiplications: for tables whose keys no stranger can choose.
  size_t QuickHash() const {
    const auto product = static_cast<unsigned __int128>(first_ ^ 0x9e3779b97f4a7c15u ^ family_) *
                         (second_ ^ 0xd6e8feb86659fd93u);
    return static_cast<size_t>(product) ^ static_cast<size_t>(product >> 64);
  }
  struct QuickHasher {
    size_t operator()(const IpAddress& address) const { return address.QuickHash(); }
  };

 private:
  enum Family : uint8_t { kNone = 0, kV4 = 4, kV6 = 6 };
  IpAddress(Family family, uint64_t first, uint64_t second)
      : first_(first), second_(second), family_(family) {}

  uint64_t first_ = 0, second_ = 0;  // the bytes as they lie in memory
  Family family_ = kNone;
};
static_assert(sizeof(IpAddress) == 17);

// An address and how many of its leading bits count. Host bits are zero: Parse refuses others.
struct Prefix {
  IpAddress address;
  uint8_t length = 0;  // 0 to 32, or 0 to 128

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
struct [[gnu::packed]] MacAddress {
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
