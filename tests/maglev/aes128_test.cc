#include "maglev/aes128.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "absl/strings/escaping.h"

namespace guideway {
namespace {

using Block = Aes128::Block;

Block FromHex(const std::string& hex) {
  const std::string bytes = absl::HexStringToBytes(hex);
  EXPECT_EQ(bytes.size(), 16u) << hex;
  Block block = {};
  std::copy_n(bytes.begin(), std::min<size_t>(bytes.size(), 16), block.begin());
  return block;
}

// FIPS 197, appendices B and C.1; then the first block of SP 800-38A, section F.1.1.
constexpr struct {
  const char* key;
  const char* plain;
  const char* cipher;
} kVectors[] = {
    {"2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734",
     "3925841d02dc09fbdc118597196a0b32"},
    {"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
     "69c4e0d86a7b0430d8cdb78070b4c55a"},
    {"2b7e151628aed2a6abf7158809cf4f3c", "6bc1bee22e409f96e93d7e117393172a",
     "3ad77bb40d7a3660a89ecaf32466ef97"},
};

TEST(Aes128, HasTheValuesOfTheStandard) {
  for (const auto& row : kVectors) {
    const Aes128 aes(FromHex(row.key));
    const Block plain = FromHex(row.plain), cipher = FromHex(row.cipher);
    EXPECT_EQ(aes.Encrypt(plain), cipher) << row.cipher;
    EXPECT_EQ(aes.Decrypt(cipher), plain) << row.cipher;
    EXPECT_EQ(aes.EncryptPortably(plain), cipher) << row.cipher;
    EXPECT_EQ(aes.DecryptPortably(cipher), plain) << row.cipher;
  }
}

TEST(Aes128, IsTheSameWithAndWithoutInstructions) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("aes")) GTEST_SKIP() << "this CPU has no AES instructions";
#else
  GTEST_SKIP() << "there are no AES instructions for this CPU";
#endif
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    Block key, block;
    for (uint8_t& byte : key) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
    const Aes128 aes(key);
    ASSERT_EQ(aes.Encrypt(block), aes.EncryptPortably(block)) << "seed " << seed;
    ASSERT_EQ(aes.Decrypt(block), aes.DecryptPortably(block)) << "seed " << seed;
    ASSERT_EQ(aes.Decrypt(aes.Encrypt(block)), block) << "seed " << seed;
  }
}

}  // namespace
}  // namespace guideway
