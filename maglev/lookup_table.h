// The lookup table: which backend of a pool a slot belongs to, in two steps.
//
// Step one, the homes (homes.h). Maglev (Eisenbud et al., NSDI 2016, section 3.4) over all
// configured backends: each walks its own permutation of the slots, they take turns, each takes its
// next slot that is free, until every slot has a home. A backend's share is exact: with M slots and
// weights that add up to W, weight w gets the floor or the ceiling of M·w/W slots.
//
// Step two, the assignment. A slot belongs to its home while the home takes it. Else the home's
// place is taken by substitutes: the homes of other slots, in an order that is fixed for each slot.
// The first one that takes the slot has it.
//
// The order of substitutes. A hash of seed, slot and attempt names other slots, up to 64, and so
// their homes. The slots of one home look for their first substitutes one after the other, then for
// their second ones; in each of these two rounds a backend that has had its share of this home's
// slots, rounded up, is passed over, so that what one failed backend leaves is spread evenly, not
// at random. From the third on each slot goes on by itself. Where all of a slot's substitutes are
// down, the next slot upward that has its home up lends it.
//
// Gradual return. A backend that comes back, or is new, need not be given all of its share at once.
// With a share of t tenths it takes slot s if hash(s, backend) is under t/10: a tenth more adds
// slots and loses none. If nobody among home and substitutes takes a slot by that rule, the first
// of them that is up at all does.
//
// Why two steps: the order is fixed by pool, size and seed; who is up decides only how far down it
// a slot has to look. So when one backend fails, or its share falls, only slots it had move; when
// it returns, or its share grows, only slots that become its own; in any sequence. A rebuild, as in
// the paper, moves slots of other backends as well. docs/maglev.md has the proof and the figures.
//
// The result is a function of names, weights, size, seed and shares. It does not depend on the
// order of the pool, on history, machine (as long as it is little-endian) or compiler.
//
// Immutable after Build; safe from any thread. 2 bytes a slot, 12 a backend, and 4·√M.
#ifndef GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_
#define GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "maglev/homes.h"

namespace guideway {

// One backend of a pool, as the table sees it.
struct PoolMember {
  std::string name;
  uint32_t weight = 100;  // 0 to 65535; 0 takes no slots

  friend bool operator==(const PoolMember&, const PoolMember&) = default;
};

// How much of its slots a backend takes now, in tenths.
using Share = uint8_t;
inline constexpr Share kDown = 0;
inline constexpr Share kFullShare = 10;

// What a table's size must be: with M prime, every skip of 1 to M-1 visits all slots.
bool IsPrime(uint32_t n);
// The smallest prime that is not below `n`, at most 2^32 - 5.
uint32_t NextPrime(uint32_t n);

class LookupTable {
 public:
  // An index into the pool, or kNoMember where nobody is up.
  using Member = uint16_t;
  static constexpr Member kNoMember = 0xffff;
  using Assignment = std::vector<Member>;  // of the slots, in their order
  static constexpr size_t kMaxMembers = 65535;
  static constexpr uint32_t kMaxWeight = 65535;
  static constexpr uint32_t kMaxSize = 16777213;  // the largest prime below 2^24

  // `size` is a prime, at least the number of members. An InvalidArgument says which rule is
  // broken: size not prime or out of range, more members than slots or than kMaxMembers, two of
  // one name, a weight over kMaxWeight. In an empty pool, or one whose weights are all 0, every
  // slot is kNoMember. Quickest when the pool is sorted by name.
  static absl::StatusOr<LookupTable> Build(absl::Span<const PoolMember> pool, uint32_t size,
                                           uint64_t seed);

  uint32_t size() const { return static_cast<uint32_t>(homes_->size()); }

  // Step one: the home of every slot.
  absl::Span<const Member> homes() const { return *homes_; }

  // Step two: who has each slot when member i takes shares[i] of its slots. `shares` is as long as
  // the pool. All kNoMember when no slot's home is up. With everybody at kFullShare these are the
  // homes themselves, at no cost; with one that is up all slots are its own; else it takes as long
  // as copying the homes and finding substitutes for the slots of those that are not, at up to 64
  // hashes each.
  std::shared_ptr<const Assignment> Assign(absl::Span<const Share> shares) const;

 private:
  // A pool's member in the table.
  struct Place {
    Permutation permutation;
    uint32_t slots;  // how many it is the home of
  };
  class Repair;

  LookupTable(Assignment homes, uint64_t seed)
      : homes_(std::make_shared<const Assignment>(std::move(homes))), seed_(seed) {}

  std::shared_ptr<const Assignment> homes_;
  std::vector<Place> places_;
  std::vector<uint32_t> ranked_;  // see Homes
  uint64_t seed_;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_
