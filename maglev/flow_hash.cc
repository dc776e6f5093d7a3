#include "maglev/flow_hash.h"

namespace guideway {
namespace {

// 128 bits of the seed's, other ones by `use`.
Aes128::Block KeyOf(uint64_t seed, uint64_t use) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(&use, sizeof(use), seed);
  Aes128::Block key;
  std::memcpy(key.data(), &hash.low64, sizeof(hash.low64));
  std::memcpy(key.data() + sizeof(hash.low64), &hash.high64, sizeof(hash.high64));
  return key;
}

}  // namespace

FlowHasher::FlowHasher(uint64_t seed) : whitening_(KeyOf(seed, 1)), round_key_(KeyOf(seed, 2)) {}

FlowHash FlowHasher::HashPortably(const FlowKey& key) const {
  Aes128::Block state = whitening_;
  const auto take_in = [&](const void* from, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(from);
    for (size_t i = 0; i < size; ++i) state[i] ^= bytes[i];
    for (int round = 0; round < kRounds; ++round) state = AesRound(state, round_key_);
  };
  if (key.version == 4) {
    uint8_t block[16];
    std::memcpy(block, key.source, 4);
    std::memcpy(block + 4, key.destination, 4);
    std::memcpy(block + 8, &key.source_port, sizeof(uint64_t));
    take_in(block, sizeof(block));
  } else {
    take_in(key.source, sizeof(key.source));
    take_in(key.destination, sizeof(key.destination));
    take_in(&key.source_port, sizeof(uint64_t));
  }
  uint64_t halves[2];
  std::memcpy(halves, state.data(), sizeof(halves));
  return Halves(halves[0], halves[1]);
}

}  // namespace guideway
