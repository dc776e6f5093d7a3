// The one hash of a packet, from which everything that has to be decided about its connection is
// taken: the slot of the lookup table, the two lines of the flow table, the fingerprint.
//
// A function of the key and the fleet's seed alone, the same on every machine: all balancers of one
// version that share a seed agree.
//
// A connection is hashed by rounds of AES, for which processors have an instruction: the blocks of
// its key one after the other into a state of 128 bits, four rounds after each, as Pelican does
// (Daemen and Rijmen, «The Pelican MAC Function», 2005). Of IPv4 all is one block, of IPv6 each
// address is one and the rest another. Two keys that differ come to the same state never if each is
// one block, else with a chance below 2^-110 if the round keys are not known; those come from a
// seed of 64 bits, which is what a stranger has to guess. It is no message authentication code:
// what Pelican does before and after is left out, since nobody gets to see the state.
#ifndef GUIDEWAY_MAGLEV_FLOW_HASH_H_
#define GUIDEWAY_MAGLEV_FLOW_HASH_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "maglev/aes128.h"
#include "maglev/net.h"

namespace guideway {

// What names a connection, as the client sends it. Bytes are in network order, as in the packet;
// an IPv4 address fills the first 4 of its 16 and leaves zeros.
struct FlowKey {
  uint8_t source[16];
  uint8_t destination[16];
  uint16_t source_port;
  uint16_t destination_port;
  uint8_t protocol;  // of the IP header
  uint8_t version;   // 4 or 6
  uint16_t zero;

  IpAddress source_address() const { return IpAddress::OfVersion(version, source); }
  IpAddress destination_address() const { return IpAddress::OfVersion(version, destination); }

  void SetAddressesV4(const void* v4_source, const void* v4_destination) {
    // In one piece each, as they are read when they are hashed right after.
    const auto set = [](uint8_t* to, const void* from) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_loadu_si32(from));
    };
    set(source, v4_source);
    set(destination, v4_destination);
  }
  // `ports`: source and destination port, as they lie in a header.
  void SetRest(uint32_t ports, uint8_t ip_protocol, uint8_t ip_version) {
    const uint64_t rest = ports | uint64_t{ip_protocol} << 32 | uint64_t{ip_version} << 40;
    std::memcpy(&source_port, &rest, sizeof(rest));
  }

  // Sent from the address that it is sent to.
  bool HasOneAddress() const { return IsSame(source, destination); }
  // Whether both are sent to the same address, port and protocol.
  bool IsToTheSameAs(const FlowKey& other) const {
    uint32_t rest, other_rest;  // port, protocol, version
    std::memcpy(&rest, &destination_port, sizeof(rest));
    std::memcpy(&other_rest, &other.destination_port, sizeof(other_rest));
    return rest == other_rest && IsSame(destination, other.destination);
  }

  friend bool operator==(const FlowKey& a, const FlowKey& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }

 private:
  static bool IsSame(const uint8_t* address, const uint8_t* other) {
    const __m128i differ = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)),
                                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(other)));
    return _mm_testz_si128(differ, differ) != 0;
  }
};
static_assert(sizeof(FlowKey) == 40 && std::has_unique_object_representations_v<FlowKey>);

// 128 independent bits. `slot` is for the lookup table, `flow`, which is never 0, for the flow
// table, so that the flows of one slot spread over all lines.
struct FlowHash {
  uint64_t slot;
  uint64_t flow;

  friend bool operator==(const FlowHash&, const FlowHash&) = default;
};

// Hashes the keys of connections. A value.
class FlowHasher {
 public:
  explicit FlowHasher(uint64_t seed);

  FlowHash Hash(const FlowKey& key) const {
    return HasAesInstructions() ? HashByInstructions(key) : HashPortably(key);
  }
  // The same, where HasAesInstructions(), and where not: for those who ask once for many.
  [[gnu::target("aes")]] FlowHash HashByInstructions(const FlowKey& key) const {
    const auto load = [](const void* from) {
      return _mm_loadu_si128(static_cast<const __m128i*>(from));
    };
    const __m128i round_key = load(&round_key_);
    __m128i state = load(&whitening_);
    const __m128i rest = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&key.source_port));
    if (key.version == 4) {
      const __m128i addresses =
          _mm_unpacklo_epi32(_mm_loadu_si32(key.source), _mm_loadu_si32(key.destination));
      state = TakeIn(state, _mm_unpacklo_epi64(addresses, rest), round_key);
    } else {
      state = TakeIn(state, load(key.source), round_key);
      state = TakeIn(state, load(key.destination), round_key);
      state = TakeIn(state, rest, round_key);
    }
    return Halves(static_cast<uint64_t>(_mm_cvtsi128_si64(state)),
                  static_cast<uint64_t>(_mm_extract_epi64(state, 1)));
  }
  FlowHash HashPortably(const FlowKey& key) const;

 private:
  static constexpr int kRounds = 4;  // after each block
  [[gnu::target("aes")]] static __m128i TakeIn(__m128i state, __m128i block, __m128i round_key) {
    state = _mm_xor_si128(state, block);
    for (int round = 0; round < kRounds; ++round) state = _mm_aesenc_si128(state, round_key);
    return state;
  }
  static FlowHash Halves(uint64_t low, uint64_t high) { return {low, high + (high == 0)}; }

  Aes128::Block whitening_, round_key_;
};

// For affinities: the same for all that one client, or one client prefix, sends.
inline uint64_t HashClient(const Prefix& client, uint64_t seed) {
  uint8_t key[18];
  std::memcpy(key, client.address.bytes(), 16);
  key[16] = static_cast<uint8_t>(client.address.bits());
  key[17] = static_cast<uint8_t>(client.length);
  return XXH3_64bits_withSeed(key, sizeof(key), seed);
}

// The slot of a hash in a table of `size` slots: multiply-high instead of a division.
inline uint32_t SlotOf(uint64_t hash, uint32_t size) {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * size) >> 64);
}

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_FLOW_HASH_H_
