#include "tests/support/packet_builder.h"

#include "absl/strings/str_format.h"

namespace guideway::testing {
namespace {

void Put16(Bytes& out, uint16_t v) {
  out.push_back(static_cast<uint8_t>(v >> 8));
  out.push_back(static_cast<uint8_t>(v));
}

void PutAll(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

void PutMac(Bytes& out, const char* text) {
  const MacAddress mac = MacAddress::Parse(text).value();
  out.insert(out.end(), mac.bytes.begin(), mac.bytes.end());
}

void PutV4(Bytes& out, const char* text) {
  const IpAddress address = IpAddress::Parse(text).value();
  out.insert(out.end(), address.bytes(), address.bytes() + 4);
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

Bytes Ethernet::Around(const Bytes& payload) const {
  Bytes out;
  PutMac(out, destination);
  PutMac(out, source);
  Put16(out, type);
  PutAll(out, payload);
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
  PutV4(out, source);
  PutV4(out, destination);
  PutAll(out, options);
  const uint16_t sum = checksum.value_or(Checksum(out));
  out[10] = static_cast<uint8_t>(sum >> 8);
  out[11] = static_cast<uint8_t>(sum);
  PutAll(out, payload);
  return out;
}

Bytes Tcp::Around(const Bytes& payload) const {
  Bytes out;
  Put16(out, source_port);
  Put16(out, destination_port);
  PutAll(out, {0, 0, 0, 1, 0, 0, 0, 2});
  out.push_back(static_cast<uint8_t>(header_words << 4));
  out.push_back(flags);
  PutAll(out, {0x20, 0x00, 0xab, 0xcd, 0, 0});
  PutAll(out, payload);
  return out;
}

Bytes Udp::Around(const Bytes& payload) const {
  Bytes out;
  Put16(out, source_port);
  Put16(out, destination_port);
  Put16(out, length.value_or(static_cast<uint16_t>(8 + payload.size())));
  PutAll(out, {0xab, 0xcd});
  PutAll(out, payload);
  return out;
}

}  // namespace guideway::testing
