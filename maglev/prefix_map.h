// From the prefixes of a configuration to the value of the longest one that contains an address:
// the region of a client, the verdict of an access list.
//
// The idea is the poptrie (Asai and Ohara, SIGCOMM 2015): a trie that takes 6 bits of the address
// a step, in which a node is two words of 64 bits and finds its place in two arrays by counting
// bits. Ours adds path compression: a node first skips up to 56 bits that everything below it has
// in common, so that a few long prefixes, the normal case of IPv6, are not a chain of nodes each.
//
//   nodes_   | IPv4 root | IPv6 root | children of the first | children of the second | …
//   Node     | children : 64 | runs : 64 | first_child : 32 | first_leaf : 32 | path : 56 | skip :
//   8 | leaves_  | values, 4 bytes each; those of a node lie together, after the one that is
//   outside
//
// The `skip` next bits of an address must be those of `path`, else it is outside of the node. The
// 6 bits after them are its slot. If bit `slot` of `children` is set, the way goes on, at the
// child whose number is the count of bits set below that one. Else the slot is a leaf: its value
// is in the leaf whose number is the count of bits of `runs` up to and including the slot. A bit
// of `runs` says that a value begins here which was not that of the leaf before; so equal
// neighbours share a leaf, and leaf 0 is what an address outside of the node has, and whatever
// comes before the first run. Every slot has its answer in place (the paper's leaf pushing):
// nothing has to be remembered on the way down.
//
// A lookup ends after at most 6 nodes for IPv4 and 22 for IPv6, of half a cache line each, and a
// leaf. It does not write, allocate or fail.
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
  static constexpr size_t kMaxPrefixes = size_t{1} << 26;

  // Contains nothing.
  PrefixMap() = default;

  // In any order, of both families. An InvalidArgument says which rule is broken: a prefix that
  // comes twice (with whatever values), that Prefix::Parse would not return (no address, host bits,
  // a length out of range), or that has the value kNone; more than kMaxPrefixes.
  static absl::StatusOr<PrefixMap> Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes);

  // The value of the longest prefix that contains `address`, or kNone. IPv4 prefixes contain IPv4
  // addresses only, mapped ones are IPv6; none is nowhere.
  uint32_t Find(const IpAddress& address) const;

  // Memory, besides this object.
  size_t bytes() const {
    return nodes_.capacity() * sizeof(Node) + leaves_.capacity() * sizeof(uint32_t);
  }

 private:
  struct alignas(32) Node {
    uint64_t children = 0;
    uint64_t runs = 0;
    uint32_t first_child = 0;
    uint32_t first_leaf = 0;
    uint64_t path = 0;  // from the top bit down; the low 8 bits are `skip`
  };

  std::vector<Node> nodes_;  // empty, or begins with two roots
  std::vector<uint32_t> leaves_;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_PREFIX_MAP_H_
