#include "tests/support/packet_builder.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace guideway::testing {
namespace {

void Put16(Bytes& out, uint16_t v) {
  out.push_back(static_cast<uint8_t>(v >> 8));
  out.push_back(static_cast<uint8_t>(v));
}

void Put32(Bytes& out, uint32_t v) {
  Put16(out, static_cast<uint16_t>(v >> 16));
  Put16(out, static_cast<uint16_t>(v));
}

void PutAll(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

void PutMac(Bytes& out, const char* text) {
  const MacAddress mac = MacAddress::Parse(text).value();
  out.insert(out.end(), mac.bytes.begin(), mac.bytes.end());
}

void PutAddress(Bytes& out, const char* text) {
  const IpAddress address = IpAddress::Parse(text).value();
  out.insert(out.end(), address.bytes(), address.bytes() + address.bits() / 8);
}

}  // namespace

std::string Hex(const Bytes& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    absl::StrAppendFormat(&text, "%02x%s", bytes[i], i % 16 == 15 ? "\n" : " ");
  }
  return text;
}

uint16_t Checksum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Bytes Slice(const Bytes& bytes, size_t from, size_t size) {
  from = std::min(from, bytes.size());
  size = std::min(size, bytes.size() - from);
  return Bytes(bytes.begin() + static_cast<ptrdiff_t>(from),
               bytes.begin() + static_cast<ptrdiff_t>(from + size));
}

Bytes Joined(Bytes first, const Bytes& second) {
  PutAll(first, second);
  return first;
}

Bytes Counting(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256 + 1);
  return bytes;
}

uint16_t Get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes.at(at) << 8 | bytes.at(at + 1));
}

Bytes Ethernet::Around(const Bytes& payload) const {
  Bytes out;
  PutMac(out, destination);
  PutMac(out, source);
  for (const Vlan& vlan : tags) {
    Put16(out, vlan.type);
    Put16(out, vlan.tag);
  }
  Put16(out, type);
  PutAll(out, payload);
  return out;
}

Bytes Framed(const Bytes& ip_packet, const std::vector<Vlan>& tags) {
  const bool is_v6 = !ip_packet.empty() && ip_packet[0] >> 4 == 6;
  return Ethernet{.type = static_cast<uint16_t>(is_v6 ? 0x86dd : 0x0800), .tags = tags}.Around(
      ip_packet);
}

Bytes Tcp::Around(const Bytes& payload) const {
  Bytes out;
  Put16(out, source_port);
  Put16(out, destination_port);
  PutAll(out, {0, 0, 0, 1, 0, 0, 0, 2});
  out.push_back(static_cast<uint8_t>(header_words << 4));
  out.push_back(flags);
  Put16(out, 0x2000);  // window
  Put16(out, checksum.value_or(0xabcd));
  Put16(out, 0);
  PutAll(out, payload);
  return out;
}

Bytes Udp::Around(const Bytes& payload) const {
  Bytes out;
  Put16(out, source_port);
  Put16(out, destination_port);
  Put16(out, length.value_or(static_cast<uint16_t>(8 + payload.size())));
  Put16(out, checksum.value_or(0xabcd));
  PutAll(out, payload);
  return out;
}

Bytes Icmpv6::Around(const Bytes& payload) const {
  Bytes out = {type, code};
  Put16(out, checksum.value_or(0xabcd));
  Put32(out, rest);
  PutAll(out, payload);
  return out;
}

Bytes Icmp::Around(const Bytes& payload) const {
  Bytes out = {type, code, 0, 0};
  Put32(out, rest);
  PutAll(out, payload);
  const uint16_t sum = checksum.value_or(Checksum(out));
  out[2] = static_cast<uint8_t>(sum >> 8);
  out[3] = static_cast<uint8_t>(sum);
  return out;
}

Bytes PseudoHeader(const char* source, const char* destination, uint8_t protocol, size_t length) {
  Bytes out;
  PutAddress(out, source);
  PutAddress(out, destination);
  if (out.size() == 8) {
    PutAll(out, {0, protocol});
    Put16(out, static_cast<uint16_t>(length));
  } else {
    Put32(out, static_cast<uint32_t>(length));
    PutAll(out, {0, 0, 0, protocol});
  }
  return out;
}

Bytes Ipv4::Around(const Bytes& payload) const {
  const size_t header_size = 20 + options.size();
  Bytes out;
  out.push_back(static_cast<uint8_t>(version << 4 | header_words.value_or(header_size / 4)));
  out.push_back(tos);
  Put16(out, total_length.value_or(static_cast<uint16_t>(header_size + payload.size())));
  Put16(out, identification);
  Put16(out, static_cast<uint16_t>((dont_fragment ? 0x4000 : 0) | (more_fragments ? 0x2000 : 0) |
                                   fragment_offset));
  out.push_back(ttl);
  out.push_back(protocol);
  Put16(out, 0);
  PutAddress(out, source);
  PutAddress(out, destination);
  PutAll(out, options);
  const uint16_t sum = checksum.value_or(Checksum(out));
  out[10] = static_cast<uint8_t>(sum >> 8);
  out[11] = static_cast<uint8_t>(sum);
  PutAll(out, payload);
  return out;
}

Extension ExtensionHeader(uint8_t type, uint8_t units) {
  Extension extension = {type, Bytes(7 + 8 * units, 0)};
  extension.rest[0] = units;
  if (type != 43) extension.rest[1] = 1, extension.rest[2] = static_cast<uint8_t>(4 + 8 * units);
  return extension;
}

Extension AuthenticationHeader(size_t value_size) {
  Extension extension = {51, Bytes(11 + value_size, 0x5a)};
  extension.rest[0] = static_cast<uint8_t>((12 + value_size) / 4 - 2);
  return extension;
}

Extension FragmentHeader(uint16_t offset, bool more, uint32_t identification) {
  Extension extension = {44, {0}};
  Put16(extension.rest, static_cast<uint16_t>(offset << 3 | (more ? 1 : 0)));
  Put32(extension.rest, identification);
  return extension;
}

Bytes Ipv6::Around(const Bytes& payload) const {
  Bytes chain;
  for (size_t i = 0; i < extensions.size(); ++i) {
    chain.push_back(i + 1 < extensions.size() ? extensions[i + 1].type : next_header);
    PutAll(chain, extensions[i].rest);
  }
  Bytes out;
  Put32(out, uint32_t{version} << 28 | uint32_t{traffic_class} << 20 | flow_label);
  Put16(out, payload_length.value_or(static_cast<uint16_t>(chain.size() + payload.size())));
  out.push_back(extensions.empty() ? next_header : extensions[0].type);
  out.push_back(hop_limit);
  PutAddress(out, source);
  PutAddress(out, destination);
  PutAll(out, chain);
  PutAll(out, payload);
  return out;
}

Bytes Gre::Around(const Bytes& inner) const {
  Bytes out = {0, 0};
  Put16(out, protocol);
  PutAll(out, inner);
  return out;
}

Bytes Gue::Around(const Bytes& inner) const { return Joined({0, protocol, 0, 0}, inner); }

Bytes Vxlan::Around(const Bytes& frame) const {
  Bytes out = {0x08, 0, 0, 0};
  Put32(out, vni << 8);
  PutAll(out, frame);
  return out;
}

}  // namespace guideway::testing
