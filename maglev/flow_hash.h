// The one hash of a packet, from which everything that has to be decided about its connection is
// taken: the slot of the lookup table, the two lines of the flow table, the fingerprint.
//
// A function of the key and the fleet's seed alone, the same on every machine and in every build:
// all balancers that share a seed agree. XXH3 (xxHash 0.8) is not a cryptographic hash; the seed
// keeps a stranger from aiming at one backend, not someone who can measure many choices.
#ifndef GUIDEWAY_MAGLEV_FLOW_HASH_H_
#define GUIDEWAY_MAGLEV_FLOW_HASH_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#define XXH_INLINE_ALL
#include <xxhash.h>

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
    const auto set = [](uint8_t* to, const void* from) {
      uint32_t word;
      std::memcpy(&word, from, sizeof(word));
      const uint64_t first = word, second = 0;
      std::memcpy(to, &first, sizeof(first));
      std::memcpy(to + sizeof(first), &second, sizeof(second));
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
  bool HasOneAddress() const {
    uint64_t a[2], b[2];
    std::memcpy(a, source, sizeof(a));
    std::memcpy(b, destination, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
  }
  // Whether both are sent to the same address, port and protocol.
  bool IsToTheSameAs(const FlowKey& other) const {
    uint64_t a[2], b[2], a_rest, b_rest;
    std::memcpy(a, destination, sizeof(a));
    std::memcpy(b, other.destination, sizeof(b));
    std::memcpy(&a_rest, &source_port, sizeof(a_rest));
    std::memcpy(&b_rest, &other.source_port, sizeof(b_rest));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a_rest ^ b_rest) >> 16) == 0;
  }

  friend bool operator==(const FlowKey& a, const FlowKey& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
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

// Hashes 16 bytes for IPv4 (addresses, ports, protocol, version) and all 40 for IPv6.
inline FlowHash HashFlow(const FlowKey& key, uint64_t seed) {
  XXH128_hash_t h;
  if (key.version == 4) {
    uint32_t source, destination;
    uint64_t rest;  // ports, protocol, version, zero
    std::memcpy(&source, key.source, 4);
    std::memcpy(&destination, key.destination, 4);
    std::memcpy(&rest, &key.source_port, 8);
    const uint64_t v4[2] = {source | uint64_t{destination} << 32, rest};
    h = XXH3_128bits_withSeed(v4, sizeof(v4), seed);
  } else {
    h = XXH3_128bits_withSeed(&key, sizeof(key), seed);
  }
  return {h.low64, h.high64 + (h.high64 == 0)};
}

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
