// From the prefixes of a configuration to the value of the longest one that contains an address:
// the region of a client, the verdict of an access list.
//
// However prefixes nest, they cut a family's addresses into ranges that each have one value. So a
// map is the first addresses of those ranges, ascending from 0, and beside them the values:
//
//   firsts   | 0    | 10.0.0.0 | 10.1.0.0 | 10.2.0.0 | 11.0.0.0 |    of 10.0.0.0/8 and 10.1.0.0/16
//   values   | none | a        | b        | a        | none     |
//
// A lookup is a binary search without branches: as many steps as the number of ranges has bits.
// n prefixes make at most 2n + 1 ranges, of 8 bytes for IPv4 and 20 for IPv6.
//
// Immutable after Build; safe from any thread.
#ifndef GUIDEWAY_MAGLEV_PREFIX_MAP_H_
#define GUIDEWAY_MAGLEV_PREFIX_MAP_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "maglev/net.h"

namespace guideway {

class PrefixMap {
 public:
  // No prefix contains the address.
  static constexpr uint32_t kNone = 0xffffffff;

  // Contains nothing.
  PrefixMap() = default;

  // In any order, of both families. An InvalidArgument says which rule is broken: a prefix comes
  // twice (with whatever values), is none that Prefix::Parse would return, or has the value kNone.
  static absl::StatusOr<PrefixMap> Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes);

  // The value of the longest prefix that contains `address`, or kNone. IPv4 prefixes contain IPv4
  // addresses only, mapped ones are IPv6; none is nowhere.
  uint32_t Find(const IpAddress& address) const {
    if (address.is_v4()) return v4_.Find(address);
    return address.is_v6() ? v6_.Find(address) : kNone;
  }

  // Memory, besides this object.
  size_t bytes() const { return v4_.bytes() + v6_.bytes(); }

  // The same value for every address.
  friend bool operator==(const PrefixMap&, const PrefixMap&) = default;
  // Of equal maps the same, of others most likely not.
  uint64_t digest() const { return digest_; }

 private:
  // One family's. Key: an address as a number.
  template <typename Key>
  class Ranges {
   public:
    // Sorted, each prefix before those that it contains.
    void Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes);
    uint32_t Find(const IpAddress& address) const;
    size_t bytes() const {
      return firsts_.capacity() * sizeof(Key) + values_.capacity() * sizeof(uint32_t);
    }
    friend bool operator==(const Ranges&, const Ranges&) = default;
    uint64_t Digest(uint64_t seed) const;

   private:
    void Begin(Key first, uint32_t value);

    std::vector<Key> firsts_;  // empty, or begins with 0
    std::vector<uint32_t> values_;
  };

  Ranges<uint32_t> v4_;
  Ranges<unsigned __int128> v6_;
  uint64_t digest_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_PREFIX_MAP_H_
