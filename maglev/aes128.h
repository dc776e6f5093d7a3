// AES-128 (FIPS 197) of single blocks: what quic_lb.h needs to read connection ids.
//
// Not a library for secrets. There are no modes, nothing is authenticated, keys are not wiped. With
// the CPU's AES instructions a block takes the same time whatever it says; without them, tables
// are looked up at places that depend on the key, and a block takes far longer.
//
// The round keys are expanded once, at construction, for both directions. Those of Decrypt are of
// FIPS 197's «equivalent inverse cipher», in the order of their use: with them, both directions
// have the same shape, and the CPU's instructions want them so.
//
//   encrypt_  | key | round 1 | … | round 9 | round 10 |        11 times 16 bytes
//   decrypt_  | round 10 | round 9, columns unmixed | … | key |  11 times 16 bytes
//
// Immutable; safe from any thread.
#ifndef GUIDEWAY_MAGLEV_AES128_H_
#define GUIDEWAY_MAGLEV_AES128_H_

#include <array>
#include <cstdint>

namespace guideway {

class Aes128 {
 public:
  using Block = std::array<uint8_t, 16>;
  static constexpr int kRounds = 10;
  using RoundKeys = std::array<Block, kRounds + 1>;

  explicit Aes128(const Block& key);

  Block Encrypt(const Block& block) const;
  Block Decrypt(const Block& block) const;

  // The same without the CPU's instructions, as on a machine that has none.
  Block EncryptPortably(const Block& block) const;
  Block DecryptPortably(const Block& block) const;

 private:
  RoundKeys encrypt_;
  RoundKeys decrypt_;
};

// Whether the CPU has AES instructions.
bool HasAesInstructions();

// One round but the last of an encryption, as the CPU's AESENC does it, without that instruction.
Aes128::Block AesRound(const Aes128::Block& state, const Aes128::Block& round_key);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_AES128_H_
