// The lookup table: which backend of a pool a slot belongs to, in two steps.
//
// Step one, the homes. Maglev (Eisenbud et al., NSDI 2016, section 3.4) over all configured
// backends: each backend walks its own permutation of the slots, they take turns, each takes its
// next slot that is free, until every slot has a home. A backend's share is exact: with M slots
// and weights that add up to W, weight w gets the floor or the ceiling of M·w/W slots.
//
// Step two, the assignment. A slot whose home takes new connections belongs to its home. Any other
// follows a walk of its own: a hash of seed, slot and attempt names another slot, whose home takes
// over if it is up; after 64 attempts, the next slot upward whose home is up.
//
// Why two steps: the walk of a slot does not depend on which backends are down, only on where it
// stops. So when one backend fails, only its slots move; when it returns, only those that would
// have stopped at it move back; in any sequence of failures and returns. A rebuild, as in the
// paper, moves slots of live backends as well.
//
// The result is a function of names, weights, size, seed and the set of backends that are up. It
// does not depend on the order of the pool, on history, machine or compiler.
//
// Immutable after Build; safe from any thread.
#ifndef GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_
#define GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace guideway {

// One backend of a pool, as the table sees it.
struct PoolMember {
  std::string name;
  uint32_t weight = 100;  // 0 to 65535; 0 takes no slots

  friend bool operator==(const PoolMember&, const PoolMember&) = default;
};

// What a table's size must be: with M prime, every skip of 1 to M-1 visits all slots.
bool IsPrime(uint32_t n);
// The smallest prime that is not below `n`, at most 2^32 - 5.
uint32_t NextPrime(uint32_t n);

class LookupTable {
 public:
  // An index into the pool, or kNoMember where nobody is up.
  using Member = uint16_t;
  static constexpr Member kNoMember = 0xffff;
  static constexpr size_t kMaxMembers = 65535;
  static constexpr uint32_t kMaxWeight = 65535;
  static constexpr uint32_t kMaxSize = 16777213;  // the largest prime below 2^24

  // `size` is a prime, at least the number of members. An InvalidArgument says which rule is
  // broken: size not prime or out of range, more members than slots or than kMaxMembers, two of
  // one name, a weight over kMaxWeight. In an empty pool, or one whose weights are all 0, every
  // slot is kNoMember.
  static absl::StatusOr<LookupTable> Build(absl::Span<const PoolMember> pool, uint32_t size,
                                           uint64_t seed);

  uint32_t size() const { return static_cast<uint32_t>(homes_.size()); }

  // Step one: the home of every slot.
  absl::Span<const Member> homes() const { return homes_; }

  // Step two: who has each slot when just the members with `up[i]` take new connections.
  // `up` is as long as the pool. All kNoMember when no slot's home is up.
  std::vector<Member> Assign(const std::vector<bool>& up) const;

 private:
  LookupTable(std::vector<Member> homes, uint64_t seed) : homes_(std::move(homes)), seed_(seed) {}

  std::vector<Member> homes_;
  uint64_t seed_;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_LOOKUP_TABLE_H_
