// Bytes of packets, and the Internet checksum, in the plainest way: what the model of the packet
// path (plain_path.h) and its traffic (random_traffic.h) are made with. Numbers are in host order,
// offsets count from the first byte.
#ifndef GUIDEWAY_TESTS_SUPPORT_PLAIN_BYTES_H_
#define GUIDEWAY_TESTS_SUPPORT_PLAIN_BYTES_H_

#include <cstddef>
#include <cstdint>

#include "maglev/net.h"
#include "tests/support/packet_builder.h"

namespace guideway::testing {

// --- bytes ---

inline uint32_t Get32(const Bytes& b, size_t at) {
  return uint32_t{Get16(b, at)} << 16 | Get16(b, at + 2);
}
inline void Put16(Bytes& b, size_t at, uint32_t v) {
  b.at(at) = static_cast<uint8_t>(v >> 8);
  b.at(at + 1) = static_cast<uint8_t>(v);
}
inline void Add8(Bytes& b, uint32_t v) { b.push_back(static_cast<uint8_t>(v)); }
inline void Add16(Bytes& b, uint32_t v) {
  Add8(b, v >> 8);
  Add8(b, v);
}
inline void Add32(Bytes& b, uint32_t v) {
  Add16(b, v >> 16);
  Add16(b, v);
}
inline void Add(Bytes& b, const Bytes& more) { b.insert(b.end(), more.begin(), more.end()); }
inline Bytes Part(const Bytes& b, size_t from, size_t to) {
  Bytes part;
  if (from < to) part.assign(&b.at(from), &b.at(to - 1) + 1);
  return part;
}
inline Bytes From(const Bytes& b, size_t from) { return Part(b, from, b.size()); }
inline Bytes BytesOf(const IpAddress& a) { return Bytes(a.bytes(), a.bytes() + a.bits() / 8); }
inline Bytes BytesOf(const MacAddress& a) { return Bytes(a.bytes.begin(), a.bytes.end()); }

// --- checksums (RFC 1071), as numbers modulo 65535 ---

inline uint64_t Sum(const Bytes& b) {
  uint64_t sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += i % 2 == 0 ? b[i] << 8 : b[i];
  return sum;
}
// 0xffff is the sum of nothing but zeros; every other sum that is a multiple of it has 0.
inline uint16_t ChecksumOfSum(uint64_t sum) {
  return sum == 0 ? 0xffff : static_cast<uint16_t>((65535 - sum % 65535) % 65535);
}
// With the checksum in it.
inline bool IsRight(uint64_t sum) { return sum != 0 && sum % 65535 == 0; }
inline uint64_t PseudoHeader(const IpAddress& source, const IpAddress& destination,
                             uint32_t protocol, size_t length) {
  return Sum(BytesOf(source)) + Sum(BytesOf(destination)) + protocol + length;
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PLAIN_BYTES_H_
