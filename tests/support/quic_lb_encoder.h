// The server's side of QUIC-LB: connection ids that maglev/quic_lb.h is to read, and packets that
// carry them. Step by step as draft-ietf-quic-load-balancers-21 has it in section 5, on bytes, with
// the plain AES that aes128_test holds against FIPS 197.
#ifndef GUIDEWAY_TESTS_SUPPORT_QUIC_LB_ENCODER_H_
#define GUIDEWAY_TESTS_SUPPORT_QUIC_LB_ENCODER_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "maglev/aes128.h"
#include "maglev/quic_lb.h"

namespace guideway::testing {

using QuicBytes = std::vector<uint8_t>;

namespace internal {

// expand(length, pass, half), encrypted.
inline Aes128::Block QuicLbPass(const Aes128& aes, size_t length, int pass, const QuicBytes& half) {
  Aes128::Block block = {};
  std::copy(half.begin(), half.end(), block.begin());
  block[14] = static_cast<uint8_t>(length);
  block[15] = static_cast<uint8_t>(pass);
  return aes.EncryptPortably(block);
}

inline QuicBytes QuicLbFourPasses(const Aes128& aes, const QuicBytes& plain) {
  const size_t length = plain.size(), half = (length + 1) / 2;
  const bool odd = length % 2 != 0;
  QuicBytes left(plain.begin(), plain.begin() + static_cast<ptrdiff_t>(half));
  QuicBytes right(plain.end() - static_cast<ptrdiff_t>(half), plain.end());
  const auto clear_what_is_the_others = [&] {
    if (!odd) return;
    left.back() &= 0xf0;
    right.front() &= 0x0f;
  };
  clear_what_is_the_others();
  for (int pass = 1; pass <= 4; ++pass) {
    QuicBytes& from = pass % 2 != 0 ? left : right;
    QuicBytes& to = pass % 2 != 0 ? right : left;
    const Aes128::Block block = QuicLbPass(aes, length, pass, from);
    for (size_t i = 0; i < half; ++i) to[i] ^= block[i];
    clear_what_is_the_others();
  }
  QuicBytes result(length);
  std::copy(left.begin(), left.end(), result.begin());
  for (size_t i = 0; i < half; ++i) result[length - half + i] |= right[i];
  return result;
}

}  // namespace internal

// The connection id for a valid config, a server id and a nonce of its lengths. The low five bits
// of its first byte say its length, or what `low_bits` says.
inline QuicBytes EncodeQuicLb(const QuicLb::Config& config, const std::string& server_id,
                              const std::string& nonce, int low_bits = -1) {
  const std::string text = server_id + nonce;
  QuicBytes rest(text.begin(), text.end());
  const size_t low = low_bits < 0 ? rest.size() : static_cast<size_t>(low_bits & 31);
  if (config.key.has_value()) {
    const Aes128 aes(*config.key);
    if (rest.size() == 16) {
      Aes128::Block block;
      std::copy(rest.begin(), rest.end(), block.begin());
      block = aes.EncryptPortably(block);
      std::copy(block.begin(), block.end(), rest.begin());
    } else {
      rest = internal::QuicLbFourPasses(aes, rest);
    }
  }
  QuicBytes id(1 + rest.size());
  id[0] = static_cast<uint8_t>(config.id << 5 | low);
  std::copy(rest.begin(), rest.end(), id.begin() + 1);
  return id;
}

// UDP payloads with this destination connection id, then `rest` bytes that only the endpoints can
// read. Long: of version 1, and the source connection id is empty.
inline QuicBytes QuicShortPacket(absl::Span<const uint8_t> id, size_t rest = 24) {
  QuicBytes packet(1 + id.size() + rest, 0xa5);
  packet[0] = 0x40;
  std::copy(id.begin(), id.end(), packet.begin() + 1);
  return packet;
}

inline QuicBytes QuicLongPacket(absl::Span<const uint8_t> id, size_t rest = 24) {
  QuicBytes packet(7 + id.size() + rest, 0xa5);
  const uint8_t head[] = {0xc0, 0, 0, 0, 1, static_cast<uint8_t>(id.size())};
  std::copy(std::begin(head), std::end(head), packet.begin());
  std::copy(id.begin(), id.end(), packet.begin() + 6);
  packet[6 + id.size()] = 0;
  return packet;
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_QUIC_LB_ENCODER_H_
