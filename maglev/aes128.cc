#include "maglev/aes128.h"

#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#define GUIDEWAY_AES __attribute__((target("aes,sse4.1")))
#endif

namespace guideway {
namespace {

using Block = Aes128::Block;
using RoundKeys = Aes128::RoundKeys;
constexpr int kRounds = Aes128::kRounds;

// Bytes are polynomials over bits, modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197 section 4).
constexpr uint8_t TimesX(uint8_t a) { return static_cast<uint8_t>(a << 1 ^ (a >> 7) * 0x1b); }

constexpr uint8_t Times(uint8_t a, uint8_t b) {
  uint8_t product = 0;
  for (; b != 0; b >>= 1, a = TimesX(a)) {
    if (b & 1) product ^= a;
  }
  return product;
}

// a^254, which is a^-1, and 0 for 0: 254 is 2 + 4 + … + 128.
constexpr uint8_t Inverse(uint8_t a) {
  uint8_t power = a, result = 1;
  for (int i = 1; i < 8; ++i) {
    power = Times(power, power);
    result = Times(result, power);
  }
  return result;
}

struct Substitution {
  std::array<uint8_t, 256> forward, backward;
};

constexpr Substitution kSubstitution = [] {
  Substitution s = {};
  for (int i = 0; i < 256; ++i) {
    const uint8_t a = Inverse(static_cast<uint8_t>(i));
    const auto turned = [a](int bits) { return a << bits | a >> (8 - bits); };
    const auto b = static_cast<uint8_t>(a ^ turned(1) ^ turned(2) ^ turned(3) ^ turned(4) ^ 0x63);
    s.forward[i] = b;
    s.backward[b] = static_cast<uint8_t>(i);
  }
  return s;
}();

void Xor(Block& block, const Block& other) {
  for (int i = 0; i < 16; ++i) block[i] ^= other[i];
}

// A block is four columns of four bytes, one column after the other. Row r turns by r columns: in
// encryption to the left (its byte comes from r columns further on), in decryption to the right.
Block SubstituteAndShift(const Block& block) {
  Block result;
  for (int i = 0; i < 16; ++i) {
    result[i] = kSubstitution.forward[block[(i + 4 * (i % 4)) % 16]];
  }
  return result;
}

Block UnsubstituteAndUnshift(const Block& block) {
  Block result;
  for (int i = 0; i < 16; ++i) {
    result[i] = kSubstitution.backward[block[(i + 12 * (i % 4)) % 16]];
  }
  return result;
}

// Each column times a matrix whose rows are this one, each turned by one more to the right.
Block TimesMatrix(const Block& block, const std::array<uint8_t, 4>& row) {
  Block result = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 4; ++k) result[i] ^= Times(block[i / 4 * 4 + (i + k) % 4], row[k]);
  }
  return result;
}

// What a byte of the first row brings to its column when it is substituted and the column times
// the matrix of encryption, with the first row's part lowest; of row r the same, turned by r bytes.
constexpr std::array<uint32_t, 256> kColumnOf = [] {
  std::array<uint32_t, 256> columns = {};
  for (size_t i = 0; i < columns.size(); ++i) {
    const uint32_t s = kSubstitution.forward[i];
    const uint32_t twice = TimesX(kSubstitution.forward[i]);
    columns[i] = twice | s << 8 | s << 16 | (twice ^ s) << 24;
  }
  return columns;
}();

Block UnmixColumns(const Block& block) { return TimesMatrix(block, {14, 11, 13, 9}); }

RoundKeys ExpandForEncryption(const Block& key) {
  RoundKeys keys;
  keys[0] = key;
  uint8_t constant = 1;
  for (int round = 1; round <= kRounds; ++round) {
    const Block& last = keys[round - 1];
    Block& next = keys[round];
    for (int i = 0; i < 4; ++i) {
      next[i] = last[i] ^ kSubstitution.forward[last[12 + (i + 1) % 4]];
    }
    next[0] ^= constant;
    for (int i = 4; i < 16; ++i) next[i] = last[i] ^ next[i - 4];
    constant = TimesX(constant);
  }
  return keys;
}

RoundKeys ExpandForDecryption(const RoundKeys& encrypt) {
  RoundKeys keys;
  for (int round = 0; round <= kRounds; ++round) keys[round] = encrypt[kRounds - round];
  for (int round = 1; round < kRounds; ++round) keys[round] = UnmixColumns(keys[round]);
  return keys;
}

#if defined(__x86_64__)

GUIDEWAY_AES __m128i Load(const Block& block) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.data()));
}

GUIDEWAY_AES Block Store(__m128i value) {
  Block block;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(block.data()), value);
  return block;
}

GUIDEWAY_AES Block EncryptByInstructions(const RoundKeys& keys, const Block& block) {
  __m128i state = _mm_xor_si128(Load(block), Load(keys[0]));
  for (int round = 1; round < kRounds; ++round) state = _mm_aesenc_si128(state, Load(keys[round]));
  return Store(_mm_aesenclast_si128(state, Load(keys[kRounds])));
}

GUIDEWAY_AES Block DecryptByInstructions(const RoundKeys& keys, const Block& block) {
  __m128i state = _mm_xor_si128(Load(block), Load(keys[0]));
  for (int round = 1; round < kRounds; ++round) state = _mm_aesdec_si128(state, Load(keys[round]));
  return Store(_mm_aesdeclast_si128(state, Load(keys[kRounds])));
}

#else

Block EncryptByInstructions(const RoundKeys&, const Block& block) { return block; }
Block DecryptByInstructions(const RoundKeys&, const Block& block) { return block; }

#endif

}  // namespace

bool HasAesInstructions() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("aes");
  return has;
#else
  return false;
#endif
}

Block AesRound(const Block& state, const Block& round_key) {
  Block result = round_key;
  for (size_t column = 0; column < 4; ++column) {
    uint32_t word = 0;
    for (size_t row = 0; row < 4; ++row) {
      word ^= std::rotl(kColumnOf[state[(4 * column + 5 * row) % 16]], static_cast<int>(8 * row));
    }
    for (size_t row = 0; row < 4; ++row) {
      result[4 * column + row] ^= static_cast<uint8_t>(word >> (8 * row));
    }
  }
  return result;
}

Aes128::Aes128(const Block& key)
    : encrypt_(ExpandForEncryption(key)), decrypt_(ExpandForDecryption(encrypt_)) {}

Block Aes128::Encrypt(const Block& block) const {
  return HasAesInstructions() ? EncryptByInstructions(encrypt_, block) : EncryptPortably(block);
}

Block Aes128::Decrypt(const Block& block) const {
  return HasAesInstructions() ? DecryptByInstructions(decrypt_, block) : DecryptPortably(block);
}

Block Aes128::EncryptPortably(const Block& block) const {
  Block state = block;
  Xor(state, encrypt_[0]);
  for (int round = 1; round < kRounds; ++round) state = AesRound(state, encrypt_[round]);
  state = SubstituteAndShift(state);
  Xor(state, encrypt_[kRounds]);
  return state;
}

Block Aes128::DecryptPortably(const Block& block) const {
  Block state = block;
  Xor(state, decrypt_[0]);
  for (int round = 1; round < kRounds; ++round) {
    state = UnmixColumns(UnsubstituteAndUnshift(state));
    Xor(state, decrypt_[round]);
  }
  state = UnsubstituteAndUnshift(state);
  Xor(state, decrypt_[kRounds]);
  return state;
}

}  // namespace guideway
