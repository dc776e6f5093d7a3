#include "maglev/net.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace guideway {

absl::StatusOr<IpAddress> IpAddress::Parse(absl::string_view text) {
  const std::string c_string(text);
  uint8_t bytes[16];
  if (c_string.size() == text.size() && c_string.find('\0') == std::string::npos) {
    if (inet_pton(AF_INET, c_string.c_str(), bytes) == 1) return V4(bytes);
    if (inet_pton(AF_INET6, c_string.c_str(), bytes) == 1) return V6(bytes);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(text), "\" is not an IPv4 or IPv6 address"));
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes()[0] == 127;
  constexpr uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return is_v6() && std::memcmp(bytes(), kLoopback, sizeof(kLoopback)) == 0;
}

std::string IpAddress::ToString() const {
  if (is_none()) return "none";
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes(), text, sizeof(text));
}

absl::StatusOr<Prefix> Prefix::Parse(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('/', 1));
  absl::StatusOr<IpAddress> address = IpAddress::Parse(parts[0]);
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::CHexEscape(text), "\" is not an address or a prefix"));
  }
  if (parts.size() == 1) return Of(*address, address->bits());
  const bool digits = !parts[1].empty() && parts[1].size() <= 3 &&
                      std::all_of(parts[1].begin(), parts[1].end(), absl::ascii_isdigit);
  int length;
  if (!digits || !absl::SimpleAtoi(parts[1], &length) || length > address->bits()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::CHexEscape(text), "\" has a prefix length that is not 0 to ", address->bits()));
  }
  const Prefix prefix = Of(*address, length);
  if (prefix.address != *address) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text,
                                                   "\" has bits set after its prefix length; ",
                                                   prefix.ToString(), " is the network"));
  }
  return prefix;
}

Prefix Prefix::Of(const IpAddress& address, int length) {
  std::array<uint8_t, 16> bytes = {};
  for (int i = 0; i < address.bits() / 8; ++i) {
    const int kept = std::clamp(length - 8 * i, 0, 8);
    bytes[i] = address.bytes()[i] & static_cast<uint8_t>(0xff00 >> kept);
  }
  return {address.is_v4() ? IpAddress::V4(bytes.data()) : IpAddress::V6(bytes.data()),
          static_cast<uint8_t>(length)};
}

bool Prefix::Contains(const IpAddress& a) const {
  return a.bits() == address.bits() && Of(a, length) == *this;
}

std::string Prefix::ToString() const {
  return is_host() ? address.ToString() : absl::StrCat(address.ToString(), "/", length);
}

absl::StatusOr<MacAddress> MacAddress::Parse(absl::string_view text) {
  MacAddress mac;
  bool ok = text.size() == 17;
  for (size_t i = 0; ok && i < 17; ++i) {
    ok = i % 3 == 2 ? text[i] == ':' : absl::ascii_isxdigit(text[i]);
  }
  if (!ok) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::CHexEscape(text), "\" is not a MAC address such as 02:00:00:00:00:01"));
  }
  for (size_t i = 0; i < 6; ++i) {
    int byte;
    (void)absl::SimpleHexAtoi(text.substr(3 * i, 2), &byte);
    mac.bytes[i] = static_cast<uint8_t>(byte);
  }
  return mac;
}

std::string MacAddress::ToString() const {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3],
                         bytes[4], bytes[5]);
}

absl::string_view ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kAny: return "any";
    case Protocol::kTcp: return "tcp";
    case Protocol::kUdp: return "udp";
  }
  return "unknown";
}

}  // namespace guideway
